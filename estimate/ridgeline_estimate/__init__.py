"""What a Transformer costs: shapes, FLOPs and peaks of devices."""
