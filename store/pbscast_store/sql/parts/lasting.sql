($12::timestamptz IS NULL AND $13::timestamptz IS NULL OR tstzrange(l.began, l.ended, '[]') && tstzrange($12, $13, '[)'))
