#include "session/session.h"

#include <algorithm>

#include "util/overloaded.h"

GST_DEBUG_CATEGORY(cf_realtime_session_debug);
#define GST_CAT_DEFAULT cf_realtime_session_debug

namespace cfr {

namespace {

constexpr std::size_t kHistoryLines = 64;

std::string describe(const Action& action) {
  return std::visit(
      Overloaded{
          [](const action::CreateSession&) { return std::string("create-session"); },
          [](const action::NewPeer&) { return std::string("new-peer"); },
          [](const action::CreateOffer& a) {
            return "create-offer tracks=" + std::to_string(a.tracks.size());
          },
          [](const action::PostTracks& a) {
            return "post-tracks n=" + std::to_string(a.request.tracks.size());
          },
          [](const action::SetRemote& a) {
            return std::string("set-remote ") +
                   (a.description.type == SdpType::offer ? "offer" : "answer");
          },
          [](const action::CreateAnswer&) { return std::string("create-answer"); },
          [](const action::PutAnswer&) { return std::string("put-answer"); },
          [](const action::CloseTracks& a) {
            return "close-tracks n=" + std::to_string(a.mids.size());
          },
          [](const action::StartTimer& a) {
            return "start-timer ms=" + std::to_string(a.delay_ms);
          },
          [](const action::StopTimer&) { return std::string("stop-timer"); },
          [](const action::SessionChanged& a) { return "session " + a.session_id; },
          [](const action::MapMid& a) {
            return "map-mid " + a.mid + " track=" + std::to_string(a.track);
          },
          [](const action::TrackLive& a) {
            return "track-live track=" + std::to_string(a.track) + " mid=" + a.mid;
          },
          [](const action::TrackClosed& a) {
            return "track-closed track=" + std::to_string(a.track);
          },
          [](const action::TrackFailed& a) {
            return "track-failed track=" + std::to_string(a.track) +
                   " kind=" + to_string(a.error.kind) + " code=" + a.error.code +
                   (a.retrying ? " retrying" : "");
          },
          [](const action::Reconnecting& a) {
            return std::string("reconnecting kind=") + to_string(a.cause.kind) +
                   " attempt=" + std::to_string(a.attempt);
          },
          [](const action::Fail& a) { return std::string("fail kind=") + to_string(a.error.kind); },
      },
      action);
}

}  // namespace

const char* to_string(ConnectionState state) {
  switch (state) {
    case ConnectionState::fresh: return "new";
    case ConnectionState::connecting: return "connecting";
    case ConnectionState::connected: return "connected";
    case ConnectionState::suspect: return "suspect";
    case ConnectionState::reconnecting: return "reconnecting";
    case ConnectionState::failed: return "failed";
    case ConnectionState::closed: return "closed";
  }
  return "unknown";
}

Session::Session(Worker& worker, SessionSettings settings, HttpSend send, Listener& listener)
    : worker_(worker),
      settings_(std::move(settings)),
      listener_(listener),
      negotiator_(settings_.negotiator),
      info_(std::make_unique<ApiClient>(settings_.api, send)),
      discovery_(worker, *info_, static_cast<Discovery::Listener&>(*this)),
      turn_backoff_(settings_.negotiator.backoff, settings_.negotiator.seed) {
  static gsize once = 0;
  if (g_once_init_enter(&once)) {
    GST_DEBUG_CATEGORY_INIT(cf_realtime_session_debug, "cfrealtime", 0,
                            "Cloudflare Realtime sessions");
    g_once_init_leave(&once, 1);
  }
  api_ = std::make_unique<ApiClient>(settings_.api, send);
  for (ApiClient* client : {api_.get(), info_.get()})
    client->set_renewal([this](std::function<void(bool)> then) { renew_token(std::move(then)); });
  if (!settings_.stream.url.empty()) {
    if (settings_.follow_stream)
      stream_follower_ = std::make_unique<StreamFollower>(
          worker_, settings_.stream, send, static_cast<StreamFollower::Listener&>(*this));
    else
      stream_publisher_ = std::make_unique<StreamPublisher>(
          worker_, settings_.stream, send,
          [this](const Error& error, bool retrying) { on_stream_failed(error, retrying); });
  }
  network_ = std::make_unique<Network>([this](bool available) { on_network_changed(available); });
  if (!settings_.turn_key_id.empty()) fetch_turn();
  watch();
}

Session::~Session() {
  stopped_ = true;
  drop_peer();
}

void Session::note(std::string line) {
  GST_DEBUG("%s", line.c_str());
  history_.push_back(std::move(line));
  if (history_.size() > kHistoryLines) history_.pop_front();
}

std::string Session::history() const {
  std::string text;
  for (const std::string& line : history_) text += line + "\n";
  return text;
}

void Session::set_state(ConnectionState state) {
  if (state == state_) return;
  state_ = state;
  GST_INFO("connection is %s", to_string(state));
  bool without = state == ConnectionState::connecting || state == ConnectionState::reconnecting;
  if (without)
    limit_retries();
  else
    retry_limit_timer_.cancel();
  listener_.on_connection_state(state);
}

void Session::limit_retries() {
  if (settings_.retry_timeout_ms == 0 || retry_limit_timer_.armed()) return;
  outage_ = {};
  retry_limit_timer_.start(worker_, settings_.retry_timeout_ms, [this] { give_up(); });
}

// --- wants -----------------------------------------------------------------------------------

void Session::publish(TrackId track, std::string name, gref<GstCaps> rtp_caps) {
  if (over()) return;
  note("> publish track=" + std::to_string(track));
  Published& published = published_[track];
  published.name = name;
  published.caps = std::move(rtp_caps);
  if (state_ == ConnectionState::fresh) set_state(ConnectionState::connecting);
  run(negotiator_.publish(track, std::move(name)));
}

void Session::drop(TrackId track) {
  if (over()) return;
  note("> drop track=" + std::to_string(track));
  published_.erase(track);
  run(negotiator_.drop(track));
  update_stream();
}

void Session::replace(TrackId before, TrackId track, std::string name, gref<GstCaps> rtp_caps) {
  if (over()) return;
  auto node = published_.extract(before);
  note("> replace track=" + std::to_string(before));
  run(negotiator_.drop(before));
  publish(track, std::move(name), std::move(rtp_caps));
  // The stream document goes on naming it.
  if (node) published_[track].was_sending = node.mapped().was_sending;
}

// The SFU gives up a track that has sent nothing for 30 s, and says so only when asked.
void Session::track_resumed(TrackId track) {
  auto it = published_.find(track);
  if (over() || it == published_.end() || it->second.mid.empty()) return;
  note("> resumed track=" + std::to_string(track));
  info_->get_session(negotiator_.session_id(), [this, name = it->second.name,
                                                number = peer_number_](Result<SessionState> state) {
    if (over() || number != peer_number_ || !state) return;
    for (const TrackObject& each : state->tracks)
      if (each.location == Location::local && each.track_name == name &&
          each.status != ResourceStatus::inactive)
        return;
    Error error;
    error.kind = ErrorKind::gone;
    error.message = "The SFU has given up the track " + name +
                    ", which had sent nothing for a while; a new connection is being built.";
    run(negotiator_.on_session_lost(std::move(error)));
  });
}

void Session::track_sending(TrackId track) {
  auto it = published_.find(track);
  if (over() || it == published_.end()) return;
  it->second.sending = it->second.was_sending = true;
  update_stream();
}

void Session::give_up() {
  Error error = outage_;
  if (error.message.empty()) {
    error.kind = ErrorKind::unreachable;
    error.message = "No connection to the SFU";
  }
  error.message += " (Gave up after " + std::to_string(settings_.retry_timeout_ms / 1000) + " s.)";
  fail(error);
}

// What plays goes on until stop(), but nothing is asked or waited for any more.
void Session::fail(const Error& error) {
  if (over()) return;
  set_state(ConnectionState::failed);
  queue_.clear();
  for (Timer* timer : {&retry_timer_, &wait_timer_, &connect_timer_, &turn_timer_}) timer->cancel();
  api_->cancel_all();
  info_->cancel_all();
  discovery_.stop();
  if (stream_publisher_) stream_publisher_->hold();
  if (stream_follower_) stream_follower_->stop();
  listener_.on_error(error);
}

void Session::reconnecting(const Error& cause) {
  // Said once for each cause, however many attempts an outage takes.
  bool known = state_ == ConnectionState::reconnecting && cause.kind == outage_.kind &&
               cause.code == outage_.code && cause.http_status == outage_.http_status;
  set_state(ConnectionState::reconnecting);
  limit_retries();
  outage_ = cause;
  if (!known) listener_.on_warning(cause);
}

// --- the peer --------------------------------------------------------------------------------

void Session::set_webrtcbin(GstElement* webrtcbin) {
  if (over()) return;
  webrtcbin_ = gref<GstElement>::ref(webrtcbin);
  make_peer();
}

void Session::make_peer() {
  if (!webrtcbin_ || turn_ == Turn::fetching || peer_) return;
  PeerSettings settings = settings_.peer;
  settings.turn_servers.insert(settings.turn_servers.end(), turn_servers_.begin(),
                               turn_servers_.end());
  settings.relay_only = settings.relay_only || (prefer_relay_ && !settings.turn_servers.empty());
  peer_ = std::make_unique<Peer>(worker_, webrtcbin_.get(), settings,
                                 static_cast<Peer::Listener&>(*this));
  webrtcbin_.reset();
  auto waiting = std::move(waiting_for_peer_);
  waiting_for_peer_.clear();
  for (auto& then : waiting) then();
}

void Session::with_peer(std::function<void()> then) {
  if (peer_)
    then();
  else
    waiting_for_peer_.push_back(std::move(then));
}

void Session::drop_peer() {
  ++peer_number_;
  waiting_for_peer_.clear();
  webrtcbin_.reset();
  if (peer_) peer_->close();
  peer_.reset();
  peer_connected_ = false;
  tracks_by_mid_.clear();
  for (auto& [track, published] : published_) {
    published.mid.clear();
    published.announced = false;
    published.sending = false;
  }
  connect_timer_.cancel();
  candidate_pair_ = {};
}

void Session::webrtcbin_failed(const std::string& what) {
  if (over() || !peer_) return;
  note("> webrtcbin-failed " + what);
  Error error;
  error.kind = ErrorKind::peer;
  error.message = "The WebRTC connection failed inside webrtcbin.";
  error.detail = what;
  run(negotiator_.on_session_lost(std::move(error)));
}

void Session::resume(GstPad* pad) {
  if (!stopped_ && peer_) peer_->resume(pad);
}

void Session::on_peer_connection(PeerConnection state) {
  if (over()) return;
  note(std::string("> connection ") + (state == PeerConnection::connected ? "connected"
                                       : state == PeerConnection::failed  ? "failed"
                                                                          : "connecting"));
  peer_connected_ = state == PeerConnection::connected;
  PeerState input = state == PeerConnection::connected ? PeerState::connected
                    : state == PeerConnection::failed  ? PeerState::failed
                                                       : PeerState::connecting;
  if (peer_connected_) {
    connect_timer_.cancel();
    connect_attempts_ = 0;
    app_checked_ = true;
    set_state(ConnectionState::connected);
    announce_sendable();
    watch_peer();
  }
  run(negotiator_.on_connection(input));
}

void Session::on_peer_pad(const std::string& mid, GstPad* pad) {
  if (over()) return;
  auto it = tracks_by_mid_.find(mid);
  if (it == tracks_by_mid_.end()) {
    GST_DEBUG("media of section %s belongs to no track any more", mid.c_str());
    return resume(pad);  // not linked: dropped
  }
  listener_.on_remote_pad(it->second, pad);
}

// The SFU's answer has no place for this track's codec, or its offer none that we can receive.
void Session::section_rejected(const std::string& mid) {
  if (over()) return;
  Error error;
  error.kind = ErrorKind::rejected;
  for (auto& [track, published] : published_) {
    if (published.mid != mid) continue;
    error.track = published.name;
    error.message = "The SFU refused the track " + published.name +
                    ": it does not support its codec, or not beside that of another track. Publish "
                    "H.264, VP8, VP9 or Opus, and the same codec on all pads of a kind.";
    TrackId refused = track;
    drop(refused);
    listener_.on_track_failed(refused, error, false);
    return;
  }
  auto node = tracks_by_mid_.extract(mid);
  if (!node) return;
  for (const auto& [name, track] : remote_tracks_)
    if (track == node.mapped()) error.track = name.second;
  error.message =
      "The track " + error.track +
      " cannot be received: the SFU offers none of the codecs that this GStreamer has a "
      "depayloader for.";
  forget_remote(node.mapped());
  listener_.on_track_failed(node.mapped(), error, false);
  run(negotiator_.drop(node.mapped()));
}

void Session::announce_sendable() {
  if (!peer_connected_ || !peer_) return;
  for (auto& [track, published] : published_) {
    if (published.mid.empty() || published.announced) continue;
    GstPad* pad = peer_->sink_pad(track);
    if (!pad) {
      GST_WARNING("webrtcbin has no sink pad for section %s", published.mid.c_str());
      continue;
    }
    published.announced = true;
    listener_.on_sendable(track, published.mid, pad);
  }
}

// --- actions ---------------------------------------------------------------------------------

template <class T>
std::function<void(Result<T>)> Session::feed(const char* name,
                                             Actions (Negotiator::*input)(Result<T>)) {
  return [this, name, input, number = peer_number_, weak = weak_from_this()](Result<T> result) {
    auto alive = weak.lock();
    if (!alive || over() || number != peer_number_) return;
    note(std::string("> ") + name +
         (result ? std::string(" ok")
                 : std::string(" ") + to_string(result.error().kind) + " " + result.error().code));
    run((negotiator_.*input)(std::move(result)));
  };
}

void Session::run(Actions actions) {
  for (Action& action : actions) queue_.push_back(std::move(action));
  if (running_) return;
  running_ = true;
  while (!queue_.empty() && !over()) {
    Action action = std::move(queue_.front());
    queue_.pop_front();
    note("< " + describe(action));
    perform(action);
  }
  running_ = false;
}

void Session::perform(const Action& action) {
  std::visit(
      Overloaded{
          [this](const action::CreateSession&) {
            if (state_ != ConnectionState::reconnecting) set_state(ConnectionState::connecting);
            api_->new_session({}, feed("session", &Negotiator::on_session));
          },
          [this](const action::NewPeer&) {
            drop_peer();
            api_->cancel_all();
            hurry_stream();
            if (!settings_.turn_key_id.empty()) fetch_turn();
            listener_.on_new_peer_needed();
          },
          [this](const action::CreateOffer& a) {
            with_peer([this, tracks = a.tracks] {
              std::vector<Peer::SendTrack> send;
              for (TrackId track : tracks) {
                auto it = published_.find(track);
                if (it != published_.end())
                  send.push_back({track, it->second.name, it->second.caps});
              }
              auto done = feed("offer", &Negotiator::on_offer);
              peer_->create_offer(send, [done](Result<Peer::Offer> offer) {
                if (!offer) return done(offer.error());
                done(Negotiator::Offer{std::move(offer->sdp), std::move(offer->mids)});
              });
            });
          },
          [this](const action::PostTracks& a) {
            api_->new_tracks(a.session_id, a.request, feed("tracks", &Negotiator::on_tracks));
          },
          [this](const action::SetRemote& a) {
            with_peer([this, description = a.description] {
              auto done = feed("remote-set", &Negotiator::on_remote_set);
              bool is_offer = description.type == SdpType::offer;
              peer_->set_remote(is_offer, description.sdp,
                                [this, done, is_offer](Result<Peer::RemoteResult> result) {
                                  if (!result) return done(result.error());
                                  if (!is_offer) limit_connect();
                                  done(Done{});
                                  for (const std::string& mid : result->rejected_mids)
                                    section_rejected(mid);
                                });
            });
          },
          [this](const action::CreateAnswer&) {
            with_peer([this] { peer_->create_answer(feed("answer", &Negotiator::on_answer)); });
          },
          [this](const action::PutAnswer& a) {
            auto done = feed("answer-put", &Negotiator::on_answer_put);
            api_->renegotiate(a.session_id, {{SdpType::answer, a.sdp}},
                              [this, done](Result<RenegotiateReply> reply) {
                                if (reply) limit_connect();
                                done(std::move(reply));
                              });
          },
          [this](const action::CloseTracks& a) {
            for (const std::string& mid : a.mids) {
              tracks_by_mid_.erase(mid);
              if (peer_) peer_->close_section(mid);
            }
            api_->close_tracks(a.session_id, {a.mids, true, {}},
                               feed("closed", &Negotiator::on_closed));
          },
          [this](const action::StartTimer& a) {
            retry_timer_.start(worker_, a.delay_ms, [this] {
              note("> timer");
              run(negotiator_.on_timer());
            });
          },
          [this](const action::StopTimer&) { retry_timer_.cancel(); },
          [this](const action::SessionChanged& a) {
            update_stream();
            listener_.on_session_id(a.session_id);
          },
          [this](const action::MapMid& a) { tracks_by_mid_[a.mid] = a.track; },
          [this](const action::TrackLive& a) {
            auto it = published_.find(a.track);
            if (it != published_.end())
              it->second.mid = a.mid;
            else if (peer_)
              peer_->open_section(a.mid);
            announce_sendable();
            listener_.on_track_live(a.track, a.mid);
          },
          [this](const action::TrackClosed& a) { listener_.on_track_closed(a.track); },
          [this](const action::TrackFailed& a) {
            if (!a.retrying)
              forget_remote(a.track);
            else if (a.error.kind == ErrorKind::not_yet)
              retry_limit_timer_.cancel();  // it is the publisher that is waited for
            listener_.on_track_failed(a.track, a.error, a.retrying);
          },
          [this](const action::Reconnecting& a) { reconnecting(a.cause); },
          [this](const action::Fail& a) { fail(a.error); },
      },
      action);
}

// --- the end ---------------------------------------------------------------------------------

void Session::stop(unsigned timeout_ms, std::function<void()> done) {
  if (stopped_) return done();
  note("> stop");
  set_state(ConnectionState::closed);
  stopped_ = true;
  queue_.clear();
  retry_timer_.cancel();
  wait_timer_.cancel();
  watch_timer_.cancel();
  connect_timer_.cancel();
  turn_timer_.cancel();
  std::string session_id = negotiator_.session_id();
  std::vector<std::string> mids = negotiator_.open_mids();
  info_->cancel_all();
  api_->cancel_all();
  network_.reset();
  drop_peer();
  stream_follower_.reset();

  // Whichever comes first: the replies or the deadline.
  struct Ending {
    std::function<void()> done;
    int open = 1;  // one for this function
  };
  auto ending = std::make_shared<Ending>(Ending{std::move(done)});
  auto one_less = [this, ending] {
    if (--ending->open > 0 || !ending->done) return;
    stop_timer_.cancel();
    std::exchange(ending->done, nullptr)();
  };
  stop_timer_.start(worker_, timeout_ms, [ending] {
    if (ending->done) std::exchange(ending->done, nullptr)();
  });
  if (!session_id.empty() && !mids.empty()) {
    ++ending->open;
    api_->close_tracks(session_id, {mids, true, {}},
                       [one_less](Result<TracksReply>) { one_less(); });
  }
  if (stream_publisher_) {
    ++ending->open;
    stream_publisher_->remove(one_less);
  }
  one_less();
}

}  // namespace cfr
