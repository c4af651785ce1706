"""Who chooses actions: policies here and elsewhere, replays, key poses."""
