-- prep_note: write fields of the record while holding the preparation lease. ARGV: id token shown_session field value ...
-- shown_session, when not empty, books the session as open (JSON for people).
-- Answers: ok state (cancelled meanwhile: the clean-up finds what was written) | fenced state
local id, token, session = ARGV[1], ARGV[2], ARGV[3]
local holder = owner(id, 'prep')
if not holder or holder.token ~= token then return {'fenced', get(id, 'state')[1] or 'gone'} end
for at = 4, #ARGV, 2 do set(id, ARGV[at], ARGV[at + 1]) end
if session ~= '' then redis.call('HSET', P .. 'sessions', id, session) end
return {'ok', get(id, 'state')[1] or 'gone'}
