"""Conversations in, labelled token ids out."""
