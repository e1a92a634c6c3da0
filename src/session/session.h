// Runs the Negotiator's actions with its two hands, the ApiClient and the Peer, and feeds the
// results back; owns the lifetime of both. Bound to the worker: every method and every Listener
// call happens there. No Listener call after stop().
#pragma once

#include <gst/gst.h>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "api/client.h"
#include "negotiation/backoff.h"
#include "negotiation/negotiator.h"
#include "rtc/peer.h"
#include "session/discovery.h"
#include "session/network.h"
#include "session/stream.h"
#include "util/worker.h"

namespace cfr {

enum class ConnectionState { fresh, connecting, connected, suspect, reconnecting, failed, closed };

struct SessionSettings {
  ApiClient::Settings api;
  PeerSettings peer;
  NegotiatorSettings negotiator;
  std::string turn_key_id;
  std::string turn_key_token;
  StreamSettings stream;  // the document to keep (sink) or to follow (source)
  bool follow_stream = false;
  std::vector<std::string> stream_tracks;  // names to play of it; empty = all
  unsigned retry_timeout_ms = 0;           // 0 = for ever
  unsigned wait_timeout_ms = 0;            // for tracks that do not appear; 0 = for ever
  unsigned turn_ttl_s = 24 * 3600;         // of the credentials; a new connection takes new ones
  unsigned suspect_after_ms = 3000;        // silence of the peer
  unsigned lost_after_ms = 8000;           // if the API can be asked; else it is the network
  unsigned expired_after_ms = 25000;       // the SFU keeps a silent session for 30 s
};

class Session : public std::enable_shared_from_this<Session>,
                private Peer::Listener,
                private Discovery::Listener,
                private StreamFollower::Listener {
 public:
  class Listener {
   public:
    virtual ~Listener() = default;
    virtual void on_connection_state(ConnectionState state) = 0;
    virtual void on_session_id(const std::string& session_id) = 0;  // "" = none at the moment
    // Replace the webrtcbin (none yet, or the one in use is dead), then call set_webrtcbin.
    virtual void on_new_peer_needed() = 0;
    // The track's packets may flow into this pad of webrtcbin, as section `mid`.
    virtual void on_sendable(TrackId track, const std::string& mid, GstPad* webrtc_sink) = 0;
    virtual void on_track_live(TrackId track, const std::string& mid) = 0;
    virtual void on_track_closed(TrackId track) = 0;
    virtual void on_track_failed(TrackId track, const Error& error, bool retrying) = 0;
    // Source only. A followed track was found / has ended for good.
    virtual void on_remote_track(TrackId track, const std::string& session_id,
                                 const std::string& name) = 0;
    virtual void on_remote_track_ended(TrackId track) = 0;
    // The track `before` goes on as `now`, from another session of its publisher.
    virtual void on_remote_track_moved(TrackId before, TrackId now,
                                       const std::string& session_id) = 0;
    // Asked twice a second while connected: packets given to webrtcbin (sink), ever.
    virtual uint64_t packets_sent() { return 0; }
    // Twice a second: a look at each track's own media (source).
    virtual void on_watch() {}
    // The addresses in use have changed.
    virtual void on_candidate_pair(const Peer::CandidatePair& pair) {}
    // Its media arrives on this blocked pad; call resume(pad) when it is linked.
    virtual void on_remote_pad(TrackId track, GstPad* webrtc_src) = 0;
    // The API refused the token: call token_renewed() soon, from anywhere but inside this call.
    // False: there is no way to get another.
    virtual bool on_token_refused() { return false; }
    // Something that is being retried.
    virtual void on_warning(const Error& error) = 0;
    // Final; nothing follows.
    virtual void on_error(const Error& error) = 0;
  };

  Session(Worker& worker, SessionSettings settings, HttpSend send, Listener& listener);
  ~Session() override;

  // A track to publish; `rtp_caps` as SendChain reports them.
  void publish(TrackId track, std::string name, gref<GstCaps> rtp_caps);
  void drop(TrackId track);
  // The track goes on in another form, as `track`.
  void replace(TrackId before, TrackId track, std::string name, gref<GstCaps> rtp_caps);
  // It sends again, after a long silence.
  void track_resumed(TrackId track);
  // Its packets have really left: it can be announced to viewers.
  void track_sending(TrackId track);
  // The tracks to play; replaces what was followed.
  void follow(std::vector<Publication> publications);
  // The webrtcbin asked for by on_new_peer_needed; a child of the element in READY or higher.
  void set_webrtcbin(GstElement* webrtcbin);
  // webrtcbin or one of its children posted an error.
  void webrtcbin_failed(const std::string& what);
  void resume(GstPad* pad);
  // Media of a received track stopped; asks the API sooner than the next poll.
  void media_stopped();

  // Another token after on_token_refused(); the one that was refused, or "", ends in an error.
  void token_renewed(std::string token);

  // Closes the tracks at the SFU, bounded by timeout_ms, and calls `done` once; nothing else is
  // called any more.
  void stop(unsigned timeout_ms, std::function<void()> done);

  // The last inputs and actions, oldest first; for error details.
  std::string history() const;

 private:
  void run(Actions actions);
  void perform(const Action& action);
  void with_peer(std::function<void()> then);
  void make_peer();
  void drop_peer();
  void announce_sendable();
  void section_rejected(const std::string& mid);
  void set_state(ConnectionState state);
  void note(std::string line);
  void fetch_turn();
  void turn_fetched(const std::vector<IceServer>& servers);
  void turn_failed(const Error& error);
  void reconnecting(const Error& cause);
  // Bounds the attempts to connect, from now on.
  void limit_retries();
  void give_up();
  void fail(const Error& error);
  // Stopped, or given up.
  bool over() const { return stopped_ || state_ == ConnectionState::failed; }
  // Bounds, from now on, the wait for a track to play.
  void wait_for_media();
  void watch();
  void watch_peer();
  void check_peer();
  void lost(std::string message);
  void ask_about_session();
  void look_at_candidates();
  bool lost_address() const;
  // Bounds the attempt in hand to reach the SFU's media address.
  void limit_connect();
  void on_network_changed(bool available);

  // A completion that runs only while this session lives and the peer is the one of the call.
  template <class T>
  std::function<void(Result<T>)> feed(const char* name, Actions (Negotiator::*input)(Result<T>));

  void on_peer_connection(PeerConnection state) override;
  void on_peer_pad(const std::string& mid, GstPad* pad) override;
  void on_track_found(const std::string& session_id, const std::string& name) override;
  void on_track_gone(const std::string& session_id, const std::string& name) override;
  using RemoteName = std::pair<std::string, std::string>;  // session, track
  void depart(RemoteName name);
  void end_departed();
  void move_remote(RemoteName before, RemoteName now);
  void end_remote(RemoteName name);
  void forget_remote(TrackId track);
  void on_publisher_missing(const std::string& session_id, const Error& error) override;
  void on_discovery_trouble(const Error& error) override;
  void on_discovery_answered() override { discovery_failures_ = 0; }
  void on_discovery_failed(Error error) override;
  void on_stream(const StreamDocument& document) override;
  void on_stream_ended() override;
  void on_stream_missing() override;
  void stream_has_ended();
  void on_stream_failed(const Error& error, bool retrying) override;
  void check_app();
  void update_stream();
  void hurry_stream();
  // Asks for another token; `then` learns whether there is one.
  void renew_token(std::function<void(bool renewed)> then);

  // given
  Worker& worker_;
  SessionSettings settings_;
  Listener& listener_;
  // owned
  Negotiator negotiator_;
  std::unique_ptr<Peer> peer_;
  std::unique_ptr<ApiClient> api_;   // the exchange; cancelled with the peer
  std::unique_ptr<ApiClient> info_;  // discovery, TURN credentials
  Discovery discovery_;
  std::unique_ptr<StreamPublisher> stream_publisher_;
  std::unique_ptr<StreamFollower> stream_follower_;
  Timer retry_timer_, stop_timer_, watch_timer_, retry_limit_timer_, wait_timer_;
  Timer connect_timer_, turn_timer_;
  std::unique_ptr<Network> network_;
  // state
  gref<GstElement> webrtcbin_;  // given, until a Peer is made of it
  std::vector<std::function<void()>> waiting_for_peer_;
  std::vector<std::function<void(bool)>> waiting_for_token_;
  enum class Turn { none, fetching, ready } turn_ = Turn::none;
  std::vector<std::string> turn_servers_;
  Backoff turn_backoff_;
  Peer::CandidatePair candidate_pair_;
  struct Published {
    std::string name;
    gref<GstCaps> caps;
    std::string mid;  // "" until its exchange is complete
    bool announced = false;
    bool sending = false;      // packets have left, on this connection
    bool was_sending = false;  // on any
  };
  std::map<TrackId, Published> published_;
  std::map<RemoteName, TrackId> remote_tracks_;
  std::map<RemoteName, int64_t> departing_;  // gone from their session, and since when
  std::set<std::string> stream_names_;       // in the stream document
  bool stream_ended_ = false;                // it is not there (any more)
  // While a follow() is under way: what came and went, to see who only moved.
  bool following_ = false;
  std::vector<RemoteName> found_, gone_;
  std::map<std::string, TrackId> tracks_by_mid_;
  TrackId next_remote_ = 1;
  ConnectionState state_ = ConnectionState::fresh;
  bool peer_connected_ = false;
  // Of the watchdog; times in microseconds of the monotonic clock.
  uint64_t heard_packets_ = 0, heard_rtp_ = 0, sent_packets_ = 0;
  int64_t heard_at_ = 0;
  int64_t network_changed_at_ = 0;
  int64_t confirmed_at_ = 0;      // when the API knew of the session, in this silence
  int64_t asked_at_ = 0;          // and when it was asked
  int64_t usual_silence_us_ = 0;  // the longest that was broken, on this connection
  unsigned ticks_ = 0;
  unsigned connect_attempts_ = 0;  // in a row without a connection
  // libnice uses a relay only after all direct ways have failed, which takes too long where packets
  // just vanish. So attempts with all ways and with relays alone take turns, from what worked last.
  bool prefer_relay_ = false;
  Error outage_;  // its cause, as last told
  bool stopped_ = false;
  bool stream_announced_ = false;
  int discovery_failures_ = 0;  // in a row
  bool app_checked_ = false;
  unsigned peer_number_ = 0;  // rises with each NewPeer; completions of earlier ones are ignored
  std::deque<Action> queue_;
  bool running_ = false;
  std::deque<std::string> history_;
};

const char* to_string(ConnectionState state);

}  // namespace cfr
