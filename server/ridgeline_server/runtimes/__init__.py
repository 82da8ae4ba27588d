"""What executes a batch: one file per runtime, behind the `Runtime` protocol of `base`."""
