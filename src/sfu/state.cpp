#include "sfu/state.h"

#include <algorithm>
#include <set>

#include "sfu/state_parts.h"
#include "wire/json.h"

namespace cfr::sfu {

namespace {
constexpr std::size_t kMaxTracks = 64;
constexpr std::size_t kMaxDead = 1000;

constexpr char kMissing[] =
    "Track not found on remote peer. Make sure the publisher peer is connected and sending packets "
    "for this track";
constexpr char kSilent[] =
    "No track data from remote peer. Make sure the publisher peer is connected and sending packets "
    "for this track";

// The time it takes tells nothing of where they differ.
bool same_secret(const std::string& a, const std::string& b) {
  unsigned char difference = a.size() != b.size();
  for (std::size_t i = 0; i < a.size(); ++i)
    difference |= static_cast<unsigned char>(a[i] ^ (b.empty() ? 0 : b[i % b.size()]));
  return difference == 0;
}

// The session that a path names; "" if none.
std::string session_in(const std::string& path) {
  auto at = path.find("/sessions/");
  if (at == std::string::npos) return "";
  std::string rest = path.substr(at + 10);
  return rest.substr(0, rest.find('/'));
}
}  // namespace

ApiReply error_reply(int status, const char* code, const std::string& text) {
  return {status, json::write(ApiError{code, text}), 0};
}

static ApiReply undecodable(const Error& error) {
  return error_reply(400, "decoding_error", "Failed to decode body as JSON: " + error.message);
}

static ApiReply too_many_sections() {
  return error_reply(410, "session_error", "The session has too many media sections");
}

ApiReply bad_description(const Error& error) {
  // Seen of the service: this one is a 400.
  bool credentials = error.message.find("no ice-ufrag") != std::string::npos;
  return error_reply(credentials ? 400 : 406, "invalid_session_description", error.message);
}

SfuState::SfuState(SfuSettings settings, Hooks& hooks, Forwarder& forwarder, uint32_t seed)
    : settings_(std::move(settings)),
      hooks_(hooks),
      forwarder_(forwarder),
      random_state_(seed * 6364136223846793005ull + 1442695040888963407ull) {}

SfuState::~SfuState() = default;

uint64_t SfuState::random() {
  random_state_ ^= random_state_ >> 12;
  random_state_ ^= random_state_ << 25;
  random_state_ ^= random_state_ >> 27;
  return random_state_ * 2685821657736338717ull;
}

std::string SfuState::random_hex(unsigned digits) {
  std::string text;
  while (text.size() < digits) text += "0123456789abcdef"[random() >> 60];
  return text;
}

// --- requests --------------------------------------------------------------------------------

void SfuState::on_request(RequestId id, const ApiRequest& request, int64_t now_us) {
  Outcome outcome = serve(request, now_us, now_us, true);
  if (outcome.wait == Wait::none) return hooks_.reply(id, outcome.reply);
  pending_.push_back({id, request, session_in(request.path), now_us});
}

void SfuState::on_cancelled(RequestId id) {
  std::erase_if(pending_, [id](const Pending& pending) { return pending.id == id; });
}

void SfuState::retry_pending(int64_t now_us) {
  auto waiting = std::move(pending_);
  pending_.clear();
  for (Pending& pending : waiting) {
    Outcome outcome = serve(pending.request, pending.since_us, now_us, false);
    if (outcome.wait == Wait::none)
      hooks_.reply(pending.id, outcome.reply);
    else
      pending_.push_back(std::move(pending));
  }
}

bool SfuState::is_waiting(const Session& session) const {
  return std::any_of(pending_.begin(), pending_.end(),
                     [&](const Pending& pending) { return pending.session == session.id; });
}

SfuState::Outcome SfuState::serve(const ApiRequest& request, int64_t since_us, int64_t now_us,
                                  bool first_try) {
  auto done = [](ApiReply reply) { return Outcome{Wait::none, std::move(reply)}; };
  const std::string prefix = "/apps/" + settings_.app_id + "/";
  if (request.path.compare(0, prefix.size(), prefix) != 0)
    return done(error_reply(404, "not_found", "App not found"));
  if (!settings_.app_secret.empty() && !same_secret(request.bearer, settings_.app_secret))
    return done(error_reply(401, "unauthorized", "The app secret is wrong or missing"));
  std::string rest = request.path.substr(prefix.size());

  if (rest == "sessions/new") {
    if (request.method != "POST") return done(error_reply(405, "method_not_allowed", "Use POST"));
    return new_session(request, now_us);
  }
  if (rest.compare(0, 9, "adapters/") == 0)
    return done(
        error_reply(501, "not_implemented", "WebSocket adapters are not part of the local SFU"));
  if (rest.compare(0, 9, "sessions/") != 0)
    return done(error_reply(404, "not_found", "No such endpoint"));
  std::string name = rest.substr(9), verb;
  if (auto slash = name.find('/'); slash != std::string::npos) {
    verb = name.substr(slash + 1);
    name = name.substr(0, slash);
  }
  static const std::map<std::string, std::string> methods = {{"", "GET"},
                                                             {"tracks/new", "POST"},
                                                             {"renegotiate", "PUT"},
                                                             {"tracks/update", "PUT"},
                                                             {"tracks/close", "PUT"},
                                                             {"datachannels/establish", "POST"},
                                                             {"datachannels/new", "POST"},
                                                             {"datachannels/update", "PUT"},
                                                             {"datachannels/close", "PUT"}};
  auto method = methods.find(verb);
  if (method == methods.end()) return done(error_reply(404, "not_found", "No such endpoint"));
  if (request.method != method->second)
    return done(error_reply(405, "method_not_allowed", "Use " + method->second));
  if (verb.compare(0, 13, "datachannels/") == 0)
    return done(error_reply(501, "not_implemented", "Data channels are not part of the local SFU"));

  auto found = sessions_.find(name);
  if (found == sessions_.end()) return done(error_reply(404, "not_found", "Session not found"));
  Session& session = *found->second;
  if (session.dead)
    return done(error_reply(410, "session_error",
                            "Session appears to be disconnected. Please check if the "
                            "PeerConnection is connected."));
  if (first_try) {
    while (!session.calls.empty() && now_us - session.calls.front() > 1000000)
      session.calls.pop_front();
    if (session.calls.size() >= settings_.calls_per_second) {
      ApiReply reply = error_reply(429, "rate_limited", "Too many calls on this session");
      reply.retry_after_s = 1;
      return done(reply);
    }
    session.calls.push_back(now_us);
  }
  if (verb.empty()) return inspect(session);
  // What closes by force needs no exchange, so it need not wait for one.
  if (first_try && verb != "tracks/close" && is_waiting(session))
    return done(error_reply(406, "invalid_session_description",
                            "Another operation on this session is in progress"));
  // The first exchange makes the connection; any other needs it.
  bool exchange = verb == "tracks/new" || verb == "tracks/update";
  if (exchange && session.remote_set && !session.connected) {
    // What cannot be read need not wait.
    auto parsed = json::read_tracks_request(request.body);
    if (!parsed) return done(undecodable(parsed.error()));
    if (now_us - since_us < int64_t(settings_.connect_wait_ms) * 1000) return {Wait::connected, {}};
    return done(error_reply(425, "session_error",
                            "Session is not ready yet. Please ensure the PeerConnection is "
                            "connected before making this request"));
  }
  return verb == "tracks/new"      ? new_tracks(session, request, since_us, now_us)
         : verb == "renegotiate"   ? renegotiate(session, request, now_us)
         : verb == "tracks/update" ? update(session, request, since_us, now_us)
                                   : close(session, request, now_us);
}

SfuState::Outcome SfuState::new_session(const ApiRequest& request, int64_t now_us) {
  std::optional<ClientDescription> description;
  if (!request.body.empty()) {
    auto parsed = json::read_new_session_request(request.body);
    if (!parsed) return {Wait::none, undecodable(parsed.error())};
    if (parsed->description->type != SdpType::offer)
      return {Wait::none, error_reply(406, "invalid_session_description", "Expecting an offer")};
    auto read = read_description(parsed->description->sdp);
    if (!read) return {Wait::none, bad_description(read.error())};
    description = std::move(*read);
  }
  std::size_t live = 0;
  for (const auto& [name, session] : sessions_) live += !session->dead;
  if (live >= settings_.max_sessions)
    return {Wait::none, error_reply(503, "temporarily_unavailable_error", "Too many sessions")};
  std::string id = random_hex(32);
  auto local = hooks_.open_transport(id);
  if (!local) return {Wait::none, error_reply(500, "internal_error", "Backend error")};
  auto& session = sessions_[id];
  session = std::make_unique<Session>();
  session->id = id;
  session->local = *local;
  session->created_us = now_us;
  session->origin_id = random() >> 1;
  session->version = random() >> 33;
  NewSessionReply reply;
  reply.session_id = id;
  if (description) {
    if (auto problem = apply_offer(*session, *description, now_us)) {
      kill(*session);
      return {Wait::none, *problem};
    }
    reply.description = SessionDescription{SdpType::answer, describe(*session, false)};
  }
  return {Wait::none, {201, json::write(reply), 0}};
}

SfuState::Outcome SfuState::new_tracks(Session& session, const ApiRequest& request,
                                       int64_t since_us, int64_t now_us) {
  auto done = [](ApiReply reply) { return Outcome{Wait::none, std::move(reply)}; };
  auto parsed = json::read_tracks_request(request.body);
  if (!parsed) return done(undecodable(parsed.error()));
  if (session.pending_offer)
    return done(error_reply(406, "invalid_session_description",
                            "An offer is waiting for its answer: call renegotiate first"));
  if (parsed->tracks.empty() && !parsed->auto_discover)
    return done(error_reply(406, "invalid_params", "Expecting at least 1 track"));
  if (parsed->tracks.size() > kMaxTracks)
    return done(error_reply(406, "invalid_params", "Expecting at most 64 track in the request"));
  std::size_t remote = 0;
  for (std::size_t i = 0; i < parsed->tracks.size(); ++i) {
    const TrackObject& track = parsed->tracks[i];
    std::string where = "tracks[" + std::to_string(i) + "]: ";
    if (!track.location)
      return done(error_reply(406, "invalid_params", where + "Missing location in track"));
    remote += *track.location == Location::remote;
    if (track.track_name.empty())
      return done(error_reply(406, "invalid_params", where + "Missing trackName in track"));
    if (*track.location == Location::remote && track.session_id.empty())
      return done(error_reply(406, "invalid_params", where + "Missing sessionId in track"));
  }
  if (remote && remote != parsed->tracks.size())
    return done(
        error_reply(406, "invalid_params", "Expecting either local or remote tracks, not both"));
  return remote ? pull(session, *parsed, since_us, now_us) : push(session, *parsed, now_us);
}

SfuState::Outcome SfuState::push(Session& session, const TracksRequest& request, int64_t now_us) {
  auto done = [](ApiReply reply) { return Outcome{Wait::none, std::move(reply)}; };
  if (!request.description &&
      std::any_of(request.tracks.begin(), request.tracks.end(),
                  [](const TrackObject& track) { return track.bidirectional; }))
    return done(error_reply(501, "not_implemented",
                            "Offers for bidirectional tracks are not part of the local SFU"));
  // The service's own offer for any other push is reported not to work: "Backend error".
  if (!request.description) return done(error_reply(500, "internal_error", "Backend error"));
  if (request.description->type != SdpType::offer)
    return done(error_reply(406, "invalid_session_description", "Expecting an offer"));
  auto description = read_description(request.description->sdp);
  if (!description) return done(bad_description(description.error()));
  for (std::size_t i = 0; i < request.tracks.size(); ++i)
    if (request.tracks[i].mid.empty())
      return done(error_reply(406, "invalid_params",
                              "tracks[" + std::to_string(i) + "]: Missing mid in track"));
  if (auto problem = apply_offer(session, *description, now_us)) return done(*problem);

  TracksReply reply;
  auto fail = [&](const TrackObject& item, const char* code, const char* text) {
    TrackObject failed;
    failed.track_name = item.track_name;
    failed.error = {code, text};
    reply.tracks.push_back(failed);
  };
  auto take = [&](Section& section, const std::string& name) {
    section.role = Section::Role::push;
    section.track_name = name;
    // A new name on a section that was closed by force is accepted, and never gets media.
    if (!section.forced) publish(session, section);
    section.closed = false;
    section.alive_us = now_us;
    TrackObject item;
    item.mid = section.ours.mid;
    item.track_name = name;
    reply.tracks.push_back(item);
  };
  for (const TrackObject& item : request.tracks) {
    Section* section = session.find(item.mid);
    bool other_name = section && section->role == Section::Role::push && !section->closed &&
                      section->track_name != item.track_name;
    bool taken = std::any_of(session.sections.begin(), session.sections.end(), [&](auto& other) {
      return other.role == Section::Role::push && !other.closed &&
             other.track_name == item.track_name && other.ours.mid != item.mid;
    });
    if (!section)
      fail(item, "invalid_params", "The offer has no section with this mid");
    else if (taken)
      fail(item, "repeated_local_track_error", "The track name is taken");
    else if (other_name)
      fail(item, "repeated_local_track_error", "The section has a track of another name");
    else if (section->role == Section::Role::pull && !section->closed)
      fail(item, "invalid_params", "The section is that of a pulled track");
    else if (section->ours.rejected || !section->client.sends())
      fail(item, "invalid_params", "The section sends nothing that the SFU supports");
    else
      take(*section, item.track_name);
  }
  // Those that no call has named yet: of this offer, or of the one that made the session.
  if (request.auto_discover)
    for (Section& section : session.sections) {
      if (section.role != Section::Role::none || section.ours.rejected || !section.client.sends())
        continue;
      take(section, random_hex(32));
      reply.tracks.back().kind = section.ours.kind;
    }
  reply.description = SessionDescription{SdpType::answer, describe(session, false)};
  return done({200, json::write(reply), 0});
}

SfuState::Section* SfuState::find_track(const std::string& id, const std::string& name,
                                        Session** owner) {
  auto found = sessions_.find(id);
  if (found == sessions_.end() || found->second->dead || !found->second->connected) return nullptr;
  for (Section& section : found->second->sections)
    if (section.role == Section::Role::push && !section.closed && section.track_name == name) {
      *owner = found->second.get();
      return &section;
    }
  return nullptr;
}

SfuState::Outcome SfuState::pull(Session& session, const TracksRequest& request, int64_t since_us,
                                 int64_t now_us) {
  auto done = [](ApiReply reply) { return Outcome{Wait::none, std::move(reply)}; };
  std::optional<ClientDescription> description;
  if (request.description) {
    if (request.description->type != SdpType::offer)
      return done(error_reply(406, "invalid_session_description", "Expecting an offer"));
    auto read = read_description(request.description->sdp);
    if (!read) return done(bad_description(read.error()));
    description = std::move(*read);
  }
  bool patient = now_us - since_us < int64_t(settings_.media_wait_ms) * 1000;
  std::size_t good = 0;
  for (const TrackObject& item : request.tracks) {
    Session* owner = nullptr;
    Section* source = find_track(item.session_id, item.track_name, &owner);
    if (!source) continue;
    if (forwarder_.has_media({owner->id, source->ours.mid}))
      ++good;
    else if (patient)
      return {Wait::media, {}};
  }
  if (session.sections.size() + good > settings_.max_sections) return done(too_many_sections());
  // Where nothing can be pulled, the client's offer is as good the next time.
  if (!good) description.reset();
  if (description)
    if (auto problem = apply_offer(session, *description, now_us)) return done(*problem);

  TracksReply reply;
  bool any = false;
  for (const TrackObject& item : request.tracks) {
    TrackObject echo;
    echo.session_id = item.session_id;
    echo.track_name = item.track_name;
    Session* owner = nullptr;
    Section* source = find_track(item.session_id, item.track_name, &owner);
    if (!source) {
      echo.error = {"not_found_track_error", kMissing};
    } else if (!forwarder_.has_media({owner->id, source->ours.mid})) {
      echo.error = {"empty_track_error", kSilent};
    } else {
      TrackAddress address{owner->id, source->ours.mid};
      std::string kind = source->ours.kind;
      Section* target = nullptr;
      if (description) {  // the client's own sections, by kind in their order
        for (Section& candidate : session.sections)
          if (!target && candidate.role == Section::Role::none && candidate.ours.kind == kind &&
              !candidate.ours.rejected && candidate.client.receives() &&
              (item.mid.empty() || item.mid == candidate.ours.mid))
            target = &candidate;
      } else {
        // Made from the source before the vector may grow, for an echo they are neighbours.
        Section fresh;
        fresh.ours.codecs = codecs_to_offer(session, *source);
        fresh.ours.mid = session.next_mid();
        fresh.ours.kind = kind;
        fresh.ours.protocol = "UDP/TLS/RTP/SAVPF";
        for (const std::string& uri : known_extensions(kind)) {
          if (uri.find("rtp-stream-id") != std::string::npos) continue;
          if (int id = session.extension_id(uri)) fresh.ours.extensions[uri] = id;
        }
        session.sections.push_back(std::move(fresh));
        target = &session.sections.back();
      }
      if (!target) {
        echo.error = {"invalid_params", "The offer has no free section to receive this track"};
      } else {
        target->role = Section::Role::pull;
        target->source = address;
        target->track_name = item.track_name;
        target->source_session = item.session_id;
        target->ours.direction = Direction::sendonly;
        target->ours.ssrcs.ssrc = uint32_t(random() >> 32) | 1;
        bool repair = std::any_of(target->ours.codecs.begin(), target->ours.codecs.end(),
                                  [](const MediaCodec& c) { return c.rtx_payload_type >= 0; });
        if (repair) target->ours.ssrcs.rtx_ssrc = uint32_t(random() >> 32) | 1;
        target->ours.cname = item.session_id.substr(0, 16);
        target->ours.stream_id = random_hex(16);
        if (item.simulcast) target->choose(*item.simulcast);
        if (description) {
          target->started = true;
          follow_client(session, *target, now_us);
        }
        echo.simulcast = item.simulcast;
        echo.mid = target->ours.mid;
        any = true;
      }
    }
    reply.tracks.push_back(std::move(echo));
  }
  if (description) {
    reply.description = SessionDescription{SdpType::answer, describe(session, false)};
  } else if (any) {
    session.pending_offer = true;
    reply.requires_immediate_renegotiation = true;
    reply.description = SessionDescription{SdpType::offer, describe(session, true)};
  }
  return done({200, json::write(reply), 0});
}

SfuState::Outcome SfuState::renegotiate(Session& session, const ApiRequest& request,
                                        int64_t now_us) {
  auto done = [](ApiReply reply) { return Outcome{Wait::none, std::move(reply)}; };
  auto parsed = json::read_renegotiate_request(request.body);
  if (!parsed) return done(undecodable(parsed.error()));
  if (!session.pending_offer || parsed->description.type != SdpType::answer)
    return done(
        error_reply(406, "invalid_session_description",
                    session.pending_offer ? "Expecting an answer" : "There is no offer to answer"));
  auto description = read_description(parsed->description.sdp);
  if (!description) return done(bad_description(description.error()));
  if (description->sections.size() != session.sections.size())
    return done(error_reply(406, "invalid_session_description",
                            "The answer does not have the sections of the offer"));
  for (std::size_t i = 0; i < session.sections.size(); ++i)
    if (description->sections[i].mid != session.sections[i].ours.mid &&
        !description->sections[i].rejected)
      return done(error_reply(406, "invalid_session_description",
                              "The answer does not have the mids of the offer"));
  if (const char* problem = session.another_client(description->transport))
    return done(error_reply(406, "invalid_session_description", problem));
  session.pending_offer = false;
  for (std::size_t i = 0; i < session.sections.size(); ++i) {
    Section& section = session.sections[i];
    if (section.role != Section::Role::pull || section.closed) continue;
    section.client = description->sections[i];
    section.started = true;
    if (section.client.rejected) {
      close_section(session, section, false);
      section.ours.rejected = true;
      section.ours.formats = section.client.formats;
    } else {
      follow_client(session, section, now_us);
    }
  }
  // Where all is rejected there is no transport yet.
  if (std::any_of(description->sections.begin(), description->sections.end(),
                  [](const ClientSection& section) { return !section.rejected; }))
    session.set_remote(hooks_, description->transport);
  return done({200, "{}", 0});
}

SfuState::Outcome SfuState::update(Session& session, const ApiRequest& request, int64_t since_us,
                                   int64_t now_us) {
  auto done = [](ApiReply reply) { return Outcome{Wait::none, std::move(reply)}; };
  auto parsed = json::read_tracks_request(request.body);
  if (!parsed) return done(undecodable(parsed.error()));
  if (parsed->tracks.empty())
    return done(error_reply(406, "invalid_params", "Expecting at least 1 track"));
  if (parsed->tracks.size() > kMaxTracks)
    return done(error_reply(406, "invalid_params", "Expecting at most 64 track in the request"));
  for (std::size_t i = 0; i < parsed->tracks.size(); ++i)
    if (parsed->tracks[i].mid.empty())
      return done(error_reply(406, "invalid_params",
                              "tracks[" + std::to_string(i) + "]: Missing mid in track"));
  if (session.pending_offer)
    return done(error_reply(406, "invalid_session_description",
                            "An offer is waiting for its answer: call renegotiate first"));

  struct Change {
    Section* section = nullptr;
    Session* owner = nullptr;
    Section* source = nullptr;
    bool has_media = false;
  };
  bool patient = now_us - since_us < int64_t(settings_.media_wait_ms) * 1000;
  std::vector<Change> changes;
  for (TrackObject& item : parsed->tracks) {
    Change change;
    change.section = session.find(item.mid);
    if (change.section && (change.section->role != Section::Role::pull || change.section->closed))
      change.section = nullptr;
    if (change.section && item.session_id.empty()) item.session_id = change.section->source_session;
    if (change.section && item.track_name.empty()) item.track_name = change.section->track_name;
    change.source = find_track(item.session_id, item.track_name, &change.owner);
    if (change.source)
      change.has_media = forwarder_.has_media({change.owner->id, change.source->ours.mid});
    if (change.section && change.source && !change.has_media && patient) return {Wait::media, {}};
    changes.push_back(change);
  }

  TracksReply reply;
  for (std::size_t i = 0; i < changes.size(); ++i) {
    const TrackObject& item = parsed->tracks[i];
    auto [section, owner, source, has_media] = changes[i];
    TrackObject echo;
    echo.session_id = item.session_id;
    echo.track_name = item.track_name;
    if (!section) {
      echo.error = {"update_track_error", "There is no pulled track with this mid"};
    } else if (!source) {
      echo.error = {"not_found_track_error", kMissing};
    } else if (!has_media) {
      echo.error = {"empty_track_error", kSilent};
    } else if (source->ours.kind != section->ours.kind) {
      echo.error = {"update_track_error", "The track is of another kind"};
    } else {
      TrackAddress address{owner->id, source->ours.mid};
      bool same = address == section->source;
      if (same && item.simulcast && (source->client.rids.empty() || !section->flowing)) {
        echo.error = {"update_track_error",
                      "The track is not configured for simulcast, no updates applicable."};
      } else {
        if (!same || item.simulcast) section->choice = {};
        if (item.simulcast) section->choose(*item.simulcast);
        section->source = address;
        section->track_name = item.track_name;
        section->source_session = item.session_id;
        if (section->flowing && same)
          forwarder_.set_choice({session.id, section->ours.mid}, section->choice, now_us);
        else if (section->flowing)
          start_egress(session, *section, now_us);
        echo.simulcast = item.simulcast;
        echo.mid = item.mid;
      }
    }
    reply.tracks.push_back(std::move(echo));
  }
  return done({200, json::write(reply), 0});
}

SfuState::Outcome SfuState::close(Session& session, const ApiRequest& request, int64_t now_us) {
  auto done = [](ApiReply reply) { return Outcome{Wait::none, std::move(reply)}; };
  auto parsed = json::read_close_request(request.body);
  if (!parsed) return done(undecodable(parsed.error()));
  if (parsed->mids.empty())
    return done(error_reply(406, "invalid_params", "Expecting at least 1 track"));
  if (parsed->mids.size() > kMaxTracks)
    return done(error_reply(406, "invalid_params", "Expecting at most 64 track in the request"));
  if (!parsed->force && is_waiting(session))
    return done(error_reply(406, "invalid_session_description",
                            "Another operation on this session is in progress"));
  for (std::size_t i = 0; i < parsed->mids.size(); ++i)
    if (parsed->mids[i].empty())
      return done(error_reply(406, "invalid_params",
                              "tracks[" + std::to_string(i) + "]: Missing mid in track"));
  std::optional<ClientDescription> description;
  if (!parsed->force) {
    if (!parsed->description || parsed->description->type != SdpType::offer)
      return done(
          error_reply(406, "invalid_session_description", "A close without force needs an offer"));
    if (session.pending_offer)
      return done(error_reply(406, "invalid_session_description",
                              "An offer is waiting for its answer: call renegotiate first"));
    auto read = read_description(parsed->description->sdp);
    if (!read) return done(bad_description(read.error()));
    description = std::move(*read);
  }
  if (description)
    if (auto problem = check_offer(session, *description)) return done(*problem);
  TracksReply reply;
  for (const std::string& mid : parsed->mids) {
    TrackObject item;
    item.mid = mid;
    Section* section = session.find(mid);
    if (!section || section->closed || section->role == Section::Role::none)
      item.error = {"close_track_error", "Track doesn't exist or was already closed"};
    else
      close_section(session, *section, parsed->force);
    reply.tracks.push_back(std::move(item));
  }
  if (description) {
    if (auto problem = apply_offer(session, *description, now_us)) return done(*problem);
    reply.description = SessionDescription{SdpType::answer, describe(session, false)};
    // With its last section the client closes the connection, and the session is over (seen of the
    // service). One that is merely inactive keeps it.
    bool open = std::any_of(session.sections.begin(), session.sections.end(),
                            [](auto& section) { return !section.ours.rejected; });
    if (!open) kill(session);
  }
  return done({200, json::write(reply), 0});
}

// Whether what is pulled is still published.
bool SfuState::is_live(const Section& pull) const {
  auto found = sessions_.find(pull.source.session);
  if (pull.closed || found == sessions_.end() || found->second->dead) return false;
  const Section* source = found->second->find(pull.source.mid);
  return source && source->role == Section::Role::push && !source->closed &&
         source->track_name == pull.track_name;
}

SfuState::Outcome SfuState::inspect(Session& session) const {
  SessionState state;
  for (const Section& section : session.sections) {
    if (section.role == Section::Role::none) continue;
    TrackObject track;
    track.location = section.role == Section::Role::push ? Location::local : Location::remote;
    track.mid = section.ours.mid;
    track.track_name = section.track_name;
    if (section.role == Section::Role::pull) track.session_id = section.source_session;
    track.kind = section.ours.kind;
    bool live = section.role == Section::Role::push ? !section.closed : is_live(section);
    track.status = live ? ResourceStatus::active : ResourceStatus::inactive;
    state.tracks.push_back(std::move(track));
  }
  return {Wait::none, {200, json::write(state), 0}};
}

// --- events ----------------------------------------------------------------------------------

void SfuState::on_connected(const std::string& id, int64_t now_us) {
  auto found = sessions_.find(id);
  if (found == sessions_.end() || found->second->dead) return;
  found->second->connected = found->second->ever_connected = true;
  forwarder_.set_connected(id, true, now_us);
  retry_pending(now_us);
}

void SfuState::on_closed(const std::string& id, int64_t now_us) {
  auto found = sessions_.find(id);
  if (found == sessions_.end() || found->second->dead) return;
  // What DTLS has closed does not come back.
  kill(*found->second);
  retry_pending(now_us);
}

void SfuState::on_media(const TrackAddress&, int64_t now_us) {
  retry_pending(now_us);
}

void SfuState::on_tick(int64_t now_us) {
  auto older = [now_us](int64_t since_us, unsigned limit_ms) {
    return now_us - since_us > int64_t(limit_ms) * 1000;
  };
  std::vector<Session*> expired;
  for (auto& [id, session] : sessions_) {
    if (session->dead) continue;
    int64_t heard = std::max(forwarder_.last_heard_us(id), session->created_us);
    if (session->ever_connected ? older(heard, settings_.session_timeout_ms)
                                : older(session->created_us, settings_.unconnected_ms))
      expired.push_back(session.get());
    for (Section& section : session->sections) {
      if (section.role != Section::Role::push || section.closed || !session->ever_connected)
        continue;
      int64_t last = std::max(forwarder_.last_packet_us({id, section.ours.mid}), section.alive_us);
      if (older(last, settings_.track_timeout_ms)) close_section(*session, section, true);
    }
  }
  for (Session* session : expired) kill(*session);
  if (!pending_.empty()) retry_pending(now_us);
}

void SfuState::kill(Session& session) {
  // Of the dead only the name is kept, to say that they are gone.
  Session dead;
  dead.id = session.id;
  dead.dead = true;
  session = std::move(dead);
  forwarder_.remove_session(session.id);
  hooks_.close_transport(session.id);
  graveyard_.push_back(session.id);
  if (graveyard_.size() > kMaxDead) {
    sessions_.erase(graveyard_.front());
    graveyard_.pop_front();
  }
}

void SfuState::forget_all() {
  for (auto& [id, session] : sessions_) {
    forwarder_.remove_session(id);
    if (!session->dead) hooks_.close_transport(id);
  }
  sessions_.clear();
  graveyard_.clear();
  for (const Pending& pending : std::exchange(pending_, {}))
    hooks_.reply(pending.id, error_reply(404, "not_found", "Session not found"));
}

std::vector<SfuState::SessionInfo> SfuState::sessions() const {
  std::vector<SessionInfo> all;
  for (const auto& [id, session] : sessions_) {
    SessionInfo info{id, session->connected, session->dead, 0, 0};
    for (const Section& section : session->sections) {
      if (section.closed) continue;
      info.pushes += section.role == Section::Role::push;
      info.pulls += section.role == Section::Role::pull;
    }
    all.push_back(info);
  }
  return all;
}

std::string SfuState::track_name(const TrackAddress& track) const {
  auto found = sessions_.find(track.session);
  if (found == sessions_.end()) return "";
  Section* section = found->second->find(track.mid);
  return section ? section->track_name : "";
}

}  // namespace cfr::sfu
