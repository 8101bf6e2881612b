-- note: write fields of the record while holding the lease of a preparation or a commit.
-- ARGV: id token member(prep|fin) shown_session field value ...
-- shown_session, when not empty, books the session as open (JSON for people).
-- Answers: ok state (cancelled meanwhile: the clean-up finds what was written) | fenced state
local id, token, member, session = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local holder = owner(id, member)
if not holder or holder.token ~= token then return {'fenced', get(id, 'state')[1] or 'gone'} end
for at = 5, #ARGV, 2 do set(id, ARGV[at], ARGV[at + 1]) end
if session ~= '' then redis.call('HSET', P .. 'sessions', id, session) end
return {'ok', get(id, 'state')[1] or 'gone'}
