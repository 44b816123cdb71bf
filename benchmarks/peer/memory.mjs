// A key-value store for the router in memory. Its own fallback walks over all nonces at every check, which would
// measure the fallback; this one answers from one look-up and sweeps once a minute.
export function memoryStore() {
  const values = new Map();
  const sets = new Map();
  const live = (key) => {
    const entry = values.get(key);
    if (entry === undefined || entry.expires < Date.now()) return undefined;
    return entry;
  };
  const sweep = () => {
    const now = Date.now();
    for (const [key, entry] of values) if (entry.expires < now) values.delete(key);
  };
  setInterval(sweep, 60_000).unref();
  return {
    get: async (key) => live(key)?.value ?? null,
    set: async (key, value) => void values.set(key, { value, expires: Infinity }),
    del: async (key) => void values.delete(key),
    setNxEx: async (key, value, seconds) => {
      if (live(key)) return false;
      values.set(key, { value, expires: Date.now() + seconds * 1000 });
      return true;
    },
    sadd: async (key, member) => {
      if (!sets.has(key)) sets.set(key, new Set());
      sets.get(key).add(member);
    },
    sismember: async (key, member) => sets.get(key)?.has(member) ?? false,
    update: async (key, change) => {
      const made = change(live(key)?.value ?? null);
      if (made.op === 'set') values.set(key, { value: made.value, expires: Infinity });
      if (made.op === 'delete') values.delete(key);
      return made.result;
    },
  };
}
