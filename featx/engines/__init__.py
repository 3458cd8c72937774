"""How a frozen graph runs: OpenVINO (CPU) or TensorFlow (CPU, GPU)."""
