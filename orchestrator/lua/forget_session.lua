-- forget_session: the upload that a transfer left was aborted by hand. ARGV: id
-- Only of one that is over for good, or whose record has expired: nothing opens an upload for it any more.
-- Answers: ok | no state
local id = ARGV[1]
local state = get(id, 'state')[1]
if state and not FINAL[state] then return {'no', state} end
redis.call('HDEL', P .. 'sessions', id)
return {'ok'}
