"""The myCobot 320 over serial and TCP: frames, drivers, the one owner of the line."""
