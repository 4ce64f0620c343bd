-- Read rows go in small steps; the index range makes each step as cheap as the last whatever was trimmed before.
DELETE FROM pbscast.journal
WHERE seq IN (SELECT seq FROM pbscast.journal WHERE seq >= %(low)s AND seq < %(floor)s ORDER BY seq LIMIT %(rows)s)
RETURNING seq
