"""Recipes: methods chained in a YAML file, done step by step."""
