"""A small model learns from a large one: losses, the teacher's outputs, the student's beginning."""
