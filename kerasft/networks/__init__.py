"""Networks: what is known of the backbones."""
