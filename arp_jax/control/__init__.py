"""What happens between two `act` calls; shared by simulation, server and bridge."""
