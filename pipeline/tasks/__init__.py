"""Luigi: the graph and its targets, and what a task works with: its site, staging, disk room, heartbeat, progress."""
