// What a Session plays: the tracks of its publishers, found by asking the API or told by the stream
// document, and the document that it keeps as a publisher.
#include <algorithm>

#include "session/session.h"

GST_DEBUG_CATEGORY_EXTERN(cf_realtime_session_debug);
#define GST_CAT_DEFAULT cf_realtime_session_debug

namespace cfr {

namespace {

// For a publisher that announces one track after the other, or one anew.
constexpr int64_t kDepartUs = 3 * G_USEC_PER_SEC;

}  // namespace

// --- tracks of publishers --------------------------------------------------------------------

void Session::follow(std::vector<Publication> publications) {
  if (over()) return;
  note("> follow publishers=" + std::to_string(publications.size()));
  if (state_ == ConnectionState::fresh && !publications.empty())
    set_state(ConnectionState::connecting);
  bool anything = !publications.empty();
  std::set<std::string> still;
  for (const Publication& publication : publications) still.insert(publication.session_id);
  following_ = true;
  discovery_.follow(std::move(publications));
  following_ = false;
  auto found = std::exchange(found_, {});
  auto gone = std::exchange(gone_, {});
  for (const RemoteName& name : gone) {
    if (still.count(name.first) || !anything)
      end_remote(name);
    else
      depart(name);
  }
  if (!anything)
    while (!departing_.empty()) end_remote(RemoteName(departing_.begin()->first));
  for (const RemoteName& name : found) on_track_found(name.first, name.second);
  if (anything) wait_for_media();
}

void Session::on_track_found(const std::string& session_id, const std::string& name) {
  if (over()) return;
  if (following_) return found_.emplace_back(session_id, name), void();
  // A track of the same name in another session is the same track: its publisher came back.
  auto same = departing_.find({session_id, name});
  if (same == departing_.end())
    same = std::find_if(departing_.begin(), departing_.end(),
                        [&](const auto& entry) { return entry.first.second == name; });
  if (same != departing_.end()) return move_remote(same->first, {session_id, name});
  TrackId track = next_remote_++;
  remote_tracks_[{session_id, name}] = track;
  note("> found " + session_id + "/" + name + " track=" + std::to_string(track));
  listener_.on_remote_track(track, session_id, name);
  run(negotiator_.subscribe(track, session_id, name));
}

void Session::on_track_gone(const std::string& session_id, const std::string& name) {
  if (over()) return;
  if (following_) return gone_.emplace_back(session_id, name), void();
  depart({session_id, name});
}

// A publisher that comes back, or makes a track anew, does so under the same name: what plays it is
// kept for a while, and for as long as the stream document names the track.
void Session::depart(RemoteName name) {
  if (!remote_tracks_.count(name)) return;
  note("> gone " + name.first + "/" + name.second);
  if (stream_ended_) return end_remote(name);
  departing_.emplace(std::move(name), g_get_monotonic_time());
  wait_for_media();
}

void Session::end_departed() {
  const int64_t now = g_get_monotonic_time();
  std::vector<RemoteName> ended;
  for (const auto& [name, since] : departing_)
    if (!stream_names_.count(name.second) && now - since >= kDepartUs) ended.push_back(name);
  for (const RemoteName& name : ended) end_remote(name);
}

void Session::move_remote(RemoteName before, RemoteName now) {
  departing_.erase(before);
  TrackId old = remote_tracks_[before];
  remote_tracks_.erase(before);
  TrackId track = next_remote_++;
  remote_tracks_[now] = track;
  note("> moved track=" + std::to_string(old) + " to track=" + std::to_string(track));
  listener_.on_remote_track_moved(old, track, now.first);
  run(negotiator_.drop(old));
  run(negotiator_.subscribe(track, now.first, now.second));
}

void Session::end_remote(RemoteName name) {
  departing_.erase(name);
  auto it = remote_tracks_.find(name);
  if (it == remote_tracks_.end()) return;
  TrackId track = it->second;
  remote_tracks_.erase(it);
  note("> ended track=" + std::to_string(track));
  listener_.on_remote_track_ended(track);
  run(negotiator_.drop(track));
}

void Session::wait_for_media() {
  if (settings_.wait_timeout_ms == 0 || wait_timer_.armed()) return;
  wait_timer_.start(worker_, settings_.wait_timeout_ms, [this] {
    Error error;
    error.kind = ErrorKind::not_yet;
    error.message = "There was nothing to play for " +
                    std::to_string(settings_.wait_timeout_ms / 1000) +
                    " s. Is the publisher running, and are session-id, tracks or stream-url right?";
    fail(error);
  });
}

void Session::on_publisher_missing(const std::string& session_id, const Error& error) {
  wait_for_media();
  if (!peer_connected_) retry_limit_timer_.cancel();  // it is the publisher that is waited for
  GST_DEBUG("publisher %s is missing: %s", session_id.c_str(), error.message.c_str());
  if (error.http_status == 404 && negotiator_.session_id().empty()) check_app();
}

// An unknown app answers as an unknown session does, but it is not worth waiting for. Only a new
// session tells them apart; it is left alone, and the SFU forgets it.
void Session::check_app() {
  if (std::exchange(app_checked_, true)) return;
  info_->new_session({}, [this](Result<NewSessionReply> reply) {
    if (over() || reply || reply.error().kind != ErrorKind::gone) return;
    fail(reply.error());
  });
}

// While media flows, an API that cannot be asked harms nobody; before that, it is all there is.
void Session::on_discovery_trouble(const Error& error) {
  if (over() || peer_connected_) return;
  ++discovery_failures_;
  int allowed = settings_.negotiator.max_retries;
  if (allowed >= 0 && discovery_failures_ > allowed && negotiator_.session_id().empty())
    return fail(error);
  if (discovery_failures_ > 1 || !negotiator_.session_id().empty()) return;
  reconnecting(error);
}
// Should its publisher come back with another session, the track is a new one.
void Session::forget_remote(TrackId track) {
  std::erase_if(remote_tracks_, [track](const auto& entry) { return entry.second == track; });
  std::erase_if(departing_,
                [this](const auto& entry) { return !remote_tracks_.count(entry.first); });
}

void Session::on_discovery_failed(Error error) {
  fail(error);
}

void Session::media_stopped() {
  if (over()) return;
  discovery_.ask_soon();
  hurry_stream();
}

// --- the stream document ---------------------------------------------------------------------

void Session::update_stream() {
  if (!stream_publisher_ || over()) return;
  StreamDocument document;
  document.session_id = negotiator_.session_id();
  bool sending = false;
  for (const auto& [track, published] : published_) {
    sending = sending || published.sending;
    // One that was live before an outage is coming back: viewers keep waiting for it.
    if (!published.was_sending) continue;
    const char* media =
        gst_structure_get_string(gst_caps_get_structure(published.caps.get(), 0), "media");
    document.tracks.push_back({published.name, media ? media : ""});
  }
  if (document.session_id.empty()) return stream_publisher_->hold();
  if (!sending && !(stream_announced_ && published_.empty())) return;
  stream_announced_ = true;
  stream_publisher_->set(document);
}

void Session::hurry_stream() {
  if (stream_publisher_) stream_publisher_->hurry();
  if (stream_follower_) stream_follower_->hurry();
}

void Session::on_stream(const StreamDocument& document) {
  if (over()) return;
  stream_ended_ = false;
  stream_names_.clear();
  for (const StreamTrack& track : document.tracks) stream_names_.insert(track.name);
  Publication publication{document.session_id, {}};
  for (const StreamTrack& track : document.tracks) {
    const auto& wanted = settings_.stream_tracks;
    if (wanted.empty() || std::find(wanted.begin(), wanted.end(), track.name) != wanted.end())
      publication.names.push_back(track.name);
  }
  if (publication.names.empty())
    follow({});
  else
    follow({publication});
}

void Session::on_stream_ended() {
  if (over()) return;
  stream_has_ended();
  follow({});
}

void Session::stream_has_ended() {
  stream_ended_ = true;
  stream_names_.clear();
  while (!departing_.empty()) end_remote(RemoteName(departing_.begin()->first));
}

void Session::on_stream_missing() {
  if (over()) return;
  stream_has_ended();
  // If it was there: whether the publisher has stopped, its session will tell.
  GST_INFO("the stream document is not there");
  discovery_.ask_soon();
  wait_for_media();
  if (state_ == ConnectionState::fresh) set_state(ConnectionState::connecting);
  retry_limit_timer_.cancel();  // it is the publisher that is waited for
}

void Session::on_stream_failed(const Error& error, bool retrying) {
  if (over()) return;
  if (!retrying) return fail(error);
  bool only_way = settings_.follow_stream && remote_tracks_.empty() && !peer_connected_;
  if (!only_way) return listener_.on_warning(error);
  reconnecting(error);
  wait_for_media();
}

}  // namespace cfr
