-- Rows that are wanted in an index's order are read by it: to sort them costs more, and so do workers that sort for others.
-- Until the transaction ends.
SET LOCAL enable_sort = off;
SET LOCAL max_parallel_workers_per_gather = 0;
