"""The manifest as text, JSON and Markdown. Computes nothing new."""
