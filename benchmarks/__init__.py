"""Benchmarks: what the claims of speed, accuracy and reliability rest on. `python -m benchmarks` lists them."""

# Each room is a folder; `python -m benchmarks` lists the scripts in it.
ROOMS = {
    "data": "decoding, augmenting and feeding images",
    "training": "accuracy, time and reliability of runs",
    "search": "searching settings",
    "serving": "the server under load, abuse and accidents",
    "weights": "the bundled weights",
}
