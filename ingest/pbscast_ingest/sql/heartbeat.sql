SELECT pbscast.heartbeat()
