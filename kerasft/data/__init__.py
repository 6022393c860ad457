"""What to learn from: sources of examples, the audit of their files, the splits, and the tf.data pipeline."""
