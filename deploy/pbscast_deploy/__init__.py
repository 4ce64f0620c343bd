"""The daemon `pbscastd`: configuration, wiring, embedded servers, PBS simulator."""
