"""Every run is an episode on the disk that survives a crash."""
