"""Whole models: tokens a second, latency, warm-up, error and where the time goes, beside Hugging Face's."""
