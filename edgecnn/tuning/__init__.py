"""Choice by measurement: which recipe, rewrites, float layers and session options are fastest where they will run."""
