"""What `/metrics` tells Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_PICTURES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

REQUESTS = Counter("kerasft_requests", "Requests answered, by HTTP status.", ["code"])
LATENCY = Histogram("kerasft_request_seconds", "From a request's headers to its answer.", buckets=_SECONDS)
PICTURES = Counter("kerasft_pictures", "Pictures that the model has answered.")
BATCHES = Histogram("kerasft_batch_pictures", "Pictures that the model was given at once.", buckets=_PICTURES)
MODEL_SECONDS = Histogram("kerasft_batch_seconds", "The model's time for a batch.", buckets=_SECONDS)
WAITING = Gauge("kerasft_queue_pictures", "Pictures that wait for the model.")
VERSION = Gauge("kerasft_model_version", "The version that answers.")
