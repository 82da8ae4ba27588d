"""From a request to batches on replicas and back."""
