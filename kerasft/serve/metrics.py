"""The Prometheus metrics at `/metrics`."""

from prometheus_client import Counter, Gauge, Histogram

_LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BATCH_SIZE_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

REQUESTS = Counter("kerasft_requests", "Requests answered, by HTTP status.", ["code"])
LATENCY = Histogram("kerasft_request_seconds", "From a request's headers to its answer.", buckets=_LATENCY_BUCKETS)
IMAGES = Counter("kerasft_pictures", "Images that the model has classified.")
BATCHES = Histogram("kerasft_batch_pictures", "Images in a batch of the model.", buckets=_BATCH_SIZE_BUCKETS)
MODEL_SECONDS = Histogram("kerasft_batch_seconds", "The model's time for a batch.", buckets=_LATENCY_BUCKETS)
QUEUE_LENGTH = Gauge("kerasft_queue_pictures", "Images that wait for the model.")
MODEL_VERSION = Gauge("kerasft_model_version", "The version of the model in use.")
