"""The commands, a module for each group. They import click and nothing heavy until they run."""
