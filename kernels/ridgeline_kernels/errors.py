"""What can go wrong in a kernel's call.

KernelError
├── ArgumentError         a tensor or an option that the op cannot take: also a ValueError
├── ConfigurationError    a file of launch parameters that cannot be used
└── BackendError          Triton cannot run or compile here what was asked for
"""

from __future__ import annotations


class KernelError(Exception):
    """A kernel cannot do what it was asked; the message is one sentence for the user."""


class ArgumentError(KernelError, ValueError):
    """An argument has a value, a shape, a dtype or a device that the op does not take."""


class ConfigurationError(KernelError):
    """Launch parameters cannot be read, or lack an entry."""


class BackendError(KernelError):
    """Triton cannot run or compile here what was asked for."""
