"""Programs that are copied into a package as they are: each runs its models and exits non-zero if they fail."""
