"""Networks from graph files (ONNX, OpenVINO IR, TensorFlow Lite, SavedModel): read, listed, named, digested and cut."""
