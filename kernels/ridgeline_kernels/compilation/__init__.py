"""Compiling every kernel for GPUs that are not there: do they compile, spill registers, use the tensor cores?"""
