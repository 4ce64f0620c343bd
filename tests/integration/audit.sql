CREATE TABLE public.audit (
  n serial PRIMARY KEY,
  op text NOT NULL,
  job text NOT NULL,
  state text,
  substate text,
  svrflags integer,
  history boolean
);

CREATE FUNCTION public.audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    INSERT INTO public.audit (op, job) VALUES (TG_OP, OLD.ji_jobid);
  ELSE
    INSERT INTO public.audit (op, job, state, substate, svrflags, history) VALUES (
      TG_OP,
      NEW.ji_jobid,
      split_part(NEW.attributes -> 'job_state', '.', 2),
      split_part(NEW.attributes -> 'substate', '.', 2),
      NEW.ji_svrflags,
      NEW.attributes ? 'history_timestamp'
    );
  END IF;
  RETURN NULL;
END
$$;

CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON pbs.job
FOR EACH ROW EXECUTE PROCEDURE public.audit();
