"""What every room stands on: errors, words, durable and guarded writes, AWS clients, logs, signals, failpoints."""
