-- Which index serves a search depends on what is asked: a plan for any values would suit none. Until the transaction ends.
SET LOCAL plan_cache_mode = force_custom_plan;
