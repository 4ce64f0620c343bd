-- What tells the row from any other that may ever have had its seq.
SELECT xid, at FROM pbscast.journal WHERE seq = %(seq)s
