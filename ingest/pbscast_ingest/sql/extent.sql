-- The first and the last row there are; asked only of a journal that is not as it was left.
SELECT coalesce(min(seq), 0) AS low, coalesce(max(seq), 0) AS high FROM pbscast.journal
