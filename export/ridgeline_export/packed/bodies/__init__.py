"""Function bodies of the dialect's ops in standard ONNX ops: what each op computes, exactly.

One module a family. Each has `words(attributes)`, what of a node's attributes chooses the computation, and
`body(words)`, the text of the body for the words of a signature: those, and the optional inputs and outputs present.
A body computes in float32 and rounds once, at the end; a number such as `scale` stays the node's attribute.
"""
