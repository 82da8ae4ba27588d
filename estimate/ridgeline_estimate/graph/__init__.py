"""FLOPs and bytes of an ONNX graph as it will run: padded, fused, quantized. Independent of the model's config."""

from ridgeline_estimate.graph.count import Graph, GraphCount, GraphWarning, graph_ops, read_graph
from ridgeline_estimate.graph.registry import Cost, handles, shapes

__all__ = ["Cost", "Graph", "GraphCount", "GraphWarning", "graph_ops", "handles", "read_graph", "shapes"]
