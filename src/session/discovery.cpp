#include "session/discovery.h"

#include <algorithm>

namespace cfr {

namespace {
// The service allows 50 calls a second on a session, shared by all its viewers: one viewer asks
// twice a second at first and every ten seconds once nothing has changed for a while.
constexpr unsigned kFirstIntervalMs = 500;
constexpr unsigned kLongestIntervalMs = 10000;
constexpr unsigned kSoonMs = 50;
}  // namespace

Discovery::Discovery(Worker& worker, ApiClient& api, Listener& listener)
    : worker_(worker), api_(api), listener_(listener), interval_ms_(kFirstIntervalMs) {}

void Discovery::follow(std::vector<Publication> publications) {
  ++generation_;
  outstanding_ = 0;
  interval_ms_ = kFirstIntervalMs;
  auto before = std::move(publishers_);
  publishers_.clear();
  for (auto& publication : publications) {
    Publisher& publisher = publishers_[publication.session_id];
    publisher.wanted.insert(publication.names.begin(), publication.names.end());
  }
  for (auto& [session_id, old] : before) {
    auto now = publishers_.find(session_id);
    for (const auto& [name, mid] : old.found) {
      bool kept = now != publishers_.end() &&
                  (now->second.wanted.empty() || now->second.wanted.count(name));
      if (kept)
        now->second.found[name] = mid;
      else
        listener_.on_track_gone(session_id, name);
    }
    if (now != publishers_.end()) now->second.seen_alive = old.seen_alive;
  }
  // Named tracks need no question: the pull itself says whether they are there.
  for (auto& [session_id, publisher] : publishers_)
    for (const std::string& name : publisher.wanted)
      if (publisher.found.try_emplace(name).second) listener_.on_track_found(session_id, name);
  if (publishers_.empty())
    timer_.cancel();
  else
    ask();
}

void Discovery::ask_soon() {
  if (publishers_.empty() || outstanding_ > 0 || pause_ms_ > 0) return;
  interval_ms_ = kFirstIntervalMs;
  timer_.start(worker_, kSoonMs, [this] { ask(); });
}

void Discovery::stop() {
  ++generation_;
  outstanding_ = 0;
  publishers_.clear();
  timer_.cancel();
}

void Discovery::ask() {
  timer_.cancel();
  pause_ms_ = 0;
  for (auto& [session_id, publisher] : publishers_) {
    ++outstanding_;
    // The ApiClient is ours to cancel: its owner destroys it before this object.
    api_.get_session(session_id,
                     [this, id = session_id, generation = generation_](Result<SessionState> state) {
                       if (generation != generation_) return;
                       --outstanding_;
                       on_state(id, std::move(state));
                       if (generation == generation_ && outstanding_ == 0) schedule();
                     });
  }
}

void Discovery::on_state(const std::string& session_id, Result<SessionState> state) {
  auto it = publishers_.find(session_id);
  if (it == publishers_.end()) return;
  Publisher& publisher = it->second;
  if (!state) {
    const Error& error = state.error();
    pause_ms_ = std::max(pause_ms_, error.retry_after_ms);
    if (error.kind == ErrorKind::unauthorized) {
      listener_.on_discovery_failed(error);
    } else if (error.kind == ErrorKind::gone) {
      // Crashed or not started yet; a clean end shows as tracks that are inactive.
      listener_.on_discovery_answered();
      listener_.on_publisher_missing(session_id, error);
    } else {
      listener_.on_discovery_trouble(error);
    }
    return;
  }
  listener_.on_discovery_answered();
  publisher.seen_alive = true;
  std::map<std::string, std::string> active;
  std::set<std::string> closed;
  for (const TrackObject& track : state->tracks) {
    if (track.location != Location::local || track.track_name.empty()) continue;
    if (track.status != ResourceStatus::inactive)
      active[track.track_name] = track.mid;
    else
      closed.insert(track.track_name);
  }
  unsigned generation = generation_;
  std::vector<std::string> fresh, gone, replaced;
  for (const auto& [name, mid] : active) {
    if (!publisher.wanted.empty() && !publisher.wanted.count(name)) continue;
    auto [known, first] = publisher.found.try_emplace(name);
    // In another section it was published anew, and what was pulled before is dead.
    bool anew = !known->second.empty() && known->second != mid;
    known->second = mid;
    if (anew) replaced.push_back(name);
    if (first || anew) fresh.push_back(name);
  }
  for (const auto& [name, mid] : publisher.found) {
    if (active.count(name)) continue;
    // A name that was asked for and has not been seen yet is waited for, not gone.
    if (closed.count(name) || publisher.wanted.empty()) gone.push_back(name);
  }
  for (const std::string& name : gone) publisher.found.erase(name);
  gone.insert(gone.end(), replaced.begin(), replaced.end());
  if (!fresh.empty() || !gone.empty()) interval_ms_ = kFirstIntervalMs;
  for (const std::string& name : gone) {
    listener_.on_track_gone(session_id, name);
    if (generation != generation_) return;
  }
  for (const std::string& name : fresh) {
    listener_.on_track_found(session_id, name);
    if (generation != generation_) return;
  }
}

void Discovery::schedule() {
  if (publishers_.empty()) return;
  timer_.start(worker_, std::max(interval_ms_, pause_ms_), [this] { ask(); });
  interval_ms_ = std::min(interval_ms_ * 3 / 2, kLongestIntervalMs);
}

}  // namespace cfr
