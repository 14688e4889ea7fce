"""Exports the selection of an arm in the formats of trainers."""
