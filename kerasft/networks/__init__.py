"""Networks: backbones, heads, and surgery on them."""
