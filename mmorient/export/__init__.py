"""A saved model as an ONNX graph, which onnxruntime answers with: no torch, no transformers."""
