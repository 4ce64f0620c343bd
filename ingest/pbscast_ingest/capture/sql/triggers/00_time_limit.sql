-- The triggers come last, and in one go with a time limit: from here to COMMIT are the only locks
-- that PBS can feel. Waiting for them may take 0.15 s, then everything is given up; what follows is
-- a matter of milliseconds. A client that stalls among them loses its session, and all is undone.
SET LOCAL idle_in_transaction_session_timeout = '500ms';
SET LOCAL statement_timeout = '150ms';
