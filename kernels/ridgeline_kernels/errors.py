"""What can go wrong in a kernel's call, or with a packed graph.

KernelError
├── ArgumentError           a tensor or an option that the op cannot take: also a ValueError
├── ConfigurationError      a file of launch parameters that cannot be used
├── BackendError            Triton or torch cannot run or compile here what was asked for
└── GraphError              a packed graph that cannot be used
    ├── GraphFileError      not an ONNX file, cut short, or without its weights
    ├── ForeignGraphError   an ONNX graph, and not one of the ridgeline dialect
    ├── NewerDialectError   a graph of a newer version of the dialect
    ├── InvalidGraphError   a graph that breaks the rules of ONNX or of the dialect
    ├── UnsupportedOpError  a node that the executor has no op for
    └── NodeError           a node that failed while the graph ran
"""

from __future__ import annotations


class KernelError(Exception):
    """A kernel cannot do what it was asked; the message is one sentence for the user."""


class ArgumentError(KernelError, ValueError):
    """An argument has a value, a shape, a dtype or a device that the op does not take."""


class ConfigurationError(KernelError):
    """Launch parameters cannot be read, or lack an entry."""


class BackendError(KernelError):
    """Triton or torch cannot run or compile here what was asked for."""


class GraphError(KernelError):
    """A packed graph cannot be used."""


class GraphFileError(GraphError):
    """A file is not an ONNX graph, was cut short, or its weights are missing or too short."""


class ForeignGraphError(GraphError):
    """A graph does not import the ridgeline dialect."""


class NewerDialectError(GraphError):
    """A graph imports a newer version of the dialect than this code knows."""


class InvalidGraphError(GraphError):
    """A graph breaks the rules of ONNX or of the dialect."""


class UnsupportedOpError(GraphError):
    """A node's op is none that the executor has."""


class NodeError(GraphError):
    """A node failed while the graph ran."""
