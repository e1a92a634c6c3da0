// Negotiators against the local SFU's state: publishers and players with the real ApiClient, joined
// to a real SfuState by a queue that is shuffled by a seeded generator, through which requests are
// lost, refused and answered twice as late as others. Time is simulated.
//
// Whatever happens: never two exchanges of one client in flight, no track asked for twice in one
// session, no request that the SFU finds malformed or out of order without a reason, and once the
// faults end each want is live (or its client has said that it gave up).
//
// CFR_RUNS=N does N runs in place of two thousand, CFR_SEED=N that one run, telling its story.
#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <iostream>
#include <random>
#include <set>
#include <sstream>

#include "api/client.h"
#include "negotiation/negotiator.h"
#include "sfu/state.h"
#include "util/overloaded.h"

namespace cfr {
namespace {

// As much of a WebRTC peer as the SFU's descriptions need: audio sections in order.
class FakePeer {
 public:
  explicit FakePeer(uint32_t first_ssrc) : next_ssrc_(first_ssrc) {}

  Negotiator::Offer offer(const std::vector<TrackId>& tracks) {
    Negotiator::Offer offer;
    for (TrackId track : tracks) {
      if (!mids_.count(track)) {
        mids_[track] = std::to_string(sections_.size());
        sections_.push_back({mids_[track], "sendonly", next_ssrc_++});
      }
      offer.mids[track] = mids_[track];
    }
    offer.sdp = text("actpass");
    return offer;
  }
  void set_offer(const std::string& sdp) {
    std::istringstream lines(sdp);
    std::size_t index = 0;
    for (std::string line; std::getline(lines, line);) {
      if (line.rfind("a=mid:", 0) != 0) continue;
      line.erase(line.find_last_not_of("\r") + 1);
      if (index == sections_.size()) sections_.push_back({line.substr(6), "recvonly", 0});
      EXPECT_EQ(sections_[index].mid, line.substr(6)) << "sections keep their order";
      ++index;
    }
    EXPECT_EQ(index, sections_.size()) << "an offer repeats all sections";
  }
  std::string answer() const { return text("active"); }
  uint32_t ssrc(const std::string& mid) const {
    for (const Section& section : sections_)
      if (section.mid == mid) return section.ssrc;
    return 0;
  }

  bool has_remote = false;  // an answer was set, or an offer answered

 private:
  struct Section {
    std::string mid, direction;
    uint32_t ssrc;
  };

  std::string text(const char* setup) const {
    std::string sdp = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE";
    for (const Section& section : sections_) sdp += " " + section.mid;
    sdp += "\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=fingerprint:sha-256 AA";
    for (int i = 1; i < 32; ++i) sdp += ":AA";
    sdp += "\r\n";
    for (const Section& section : sections_) {
      sdp += "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:" + section.mid +
             "\r\na=" + section.direction + "\r\na=setup:" + setup +
             "\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n";
      if (section.ssrc) sdp += "a=ssrc:" + std::to_string(section.ssrc) + " cname:x\r\n";
    }
    return sdp;
  }

  std::vector<Section> sections_;
  std::map<TrackId, std::string> mids_;
  uint32_t next_ssrc_;
};

class World;

// One element: a Negotiator with its hands, as the Session has them.
class Client {
 public:
  Client(World& world, std::string name, uint32_t number);

  void publish(std::string name);
  void subscribe(std::string session, std::string name);
  void drop(TrackId track);
  // The peer behind a session of the SFU's became reachable.
  void connect(const std::string& session);
  void lose_connection();

  struct Want {
    bool push = false;
    std::string name, publisher;
    enum { open, live, failed } state = open;
    std::string mid;
    bool dropped = false;
  };
  std::map<TrackId, Want> wants;
  bool gave_up = false;
  // Set by the world: publications changed.
  std::function<void()> on_change = [] {};

  bool settled() const {
    if (gave_up) return true;
    for (const auto& [id, want] : wants)
      if (want.dropped || want.state == Want::open) return false;
    return true;
  }
  const std::string& session() const { return negotiator_.session_id(); }
  bool connected() const { return connected_; }
  uint32_t ssrc(const std::string& mid) const { return peer_->ssrc(mid); }
  std::size_t in_flight() const { return in_flight_; }
  std::string story;

 private:
  void run(Actions actions);
  void perform(const Action& action);
  // The end of an exchange step: one less in flight; nothing when the peer was replaced.
  template <class T>
  std::function<void(Result<T>)> feed(const char* name, Actions (Negotiator::*input)(Result<T>));
  void begin(const char* what);

  World& world_;
  std::string name_;
  uint32_t number_;
  Negotiator negotiator_;
  std::unique_ptr<ApiClient> api_;
  std::unique_ptr<FakePeer> peer_;
  unsigned peer_number_ = 0;
  unsigned timer_number_ = 0;
  bool connected_ = false;
  std::size_t in_flight_ = 0;                      // steps of an exchange
  std::map<std::string, std::set<TrackId>> held_;  // live tracks, by session
  TrackId next_track_ = 1;
};

class World : private sfu::SfuState::Hooks, private sfu::Forwarder::Output {
 public:
  explicit World(uint32_t seed)
      : random_(seed),
        forwarder_(*this, 0, seed),
        sfu_(settings(seed), *this, forwarder_, seed),
        loud(std::getenv("CFR_SEED") != nullptr) {}

  int pick(int limit) { return int(random_() % unsigned(limit)); }
  bool chance(int percent) { return pick(100) < percent; }

  void post(std::function<void()> event) { queue_.push_back(std::move(event)); }
  void after(uint32_t delay_ms, std::function<void()> event) {
    timers_.emplace(now_us_ + int64_t(delay_ms) * 1000, std::move(event));
  }

  // One random event, or the next timer. False when nothing is left.
  bool step() {
    if (!queue_.empty() && (timers_.empty() || !chance(5))) {
      std::size_t index = random_() % queue_.size();
      auto event = std::move(queue_[index]);
      queue_.erase(queue_.begin() + std::ptrdiff_t(index));
      event();
      return true;
    }
    if (timers_.empty() && open_requests_.empty()) return watch();
    int64_t next = now_us_ + 1000000;
    if (!timers_.empty()) next = std::min(next, std::max(now_us_, timers_.begin()->first));
    now_us_ = next;
    while (!timers_.empty() && timers_.begin()->first <= now_us_) {
      auto event = std::move(timers_.begin()->second);
      timers_.erase(timers_.begin());
      event();
    }
    sfu_.on_tick(now_us_);
    if (chance(20)) watch();
    return true;
  }

  // ICE of the clients finds out who talks to nobody. True when it did.
  bool watch() {
    bool found = false;
    std::set<std::string> alive;
    for (const auto& info : sfu_.sessions())
      if (!info.dead) alive.insert(info.id);
    for (auto& client : clients) {
      if (client->session().empty() || alive.count(client->session())) continue;
      std::string before = client->session();
      client->lose_connection();
      found = found || client->session() != before;
    }
    return found;
  }

  HttpSend http(const std::string& client);
  void restart_sfu() {
    note("SFU restarts");
    sfu_.forget_all();
  }
  // A packet of a publisher's track.
  void media(const std::string& session, uint32_t ssrc) {
    std::vector<uint8_t> packet = {0x80,
                                   111,
                                   0,
                                   1,
                                   0,
                                   0,
                                   0,
                                   1,
                                   uint8_t(ssrc >> 24),
                                   uint8_t(ssrc >> 16),
                                   uint8_t(ssrc >> 8),
                                   uint8_t(ssrc)};
    packet.resize(60, 0x55);
    forwarder_.on_rtp(session, packet, now_us_);
  }
  void note(const std::string& line) {
    if (loud) std::cerr << now_us_ / 1000 << " " << line << "\n";
  }
  std::size_t sections(const std::string& session, bool push) const {
    for (const auto& info : sfu_.sessions())
      if (info.id == session && !info.dead) return push ? info.pushes : info.pulls;
    return 0;
  }

  std::vector<std::unique_ptr<Client>> clients;
  int fault_percent = 0;
  std::size_t faults = 0, requests = 0;
  // Sessions that may hold more than their clients know: they were said to be gone and are not, or
  // a close failed so often that it was given up.
  std::set<std::string> doubtful;
  std::map<std::string, int> failed_closes;

 private:
  static sfu::SfuSettings settings(uint32_t seed) {
    sfu::SfuSettings settings;
    settings.app_secret = "secret";
    settings.session_timeout_ms = settings.track_timeout_ms = 4000000000u;
    settings.unconnected_ms = seed % 2 ? 30000 : 120000;
    return settings;
  }

  // As the HTTP server does: a request goes in, one reply comes out, whenever.
  void ask_sfu(const HttpRequest& request, std::function<void(const sfu::ApiReply&)> done) {
    sfu::RequestId id = ++last_request_;
    open_requests_[id] = std::move(done);
    sfu::ApiRequest in;
    in.method = request.method;
    in.path = request.url.substr(std::string("http://sfu/v1").size());
    in.body = request.body;
    in.bearer = request.bearer_token;
    sfu_.on_request(id, in, now_us_);
  }
  void deliver(const std::string& who, const HttpRequest& request, Callback<HttpReply> done);

  std::optional<sfu::LocalTransport> open_transport(const std::string&) override {
    return sfu::LocalTransport{"sfu0", "sfusfusfusfusfusfusfusfu", "BB:BB", "127.0.0.1", 9};
  }
  void set_remote(const std::string& session, const sfu::RemoteTransport&) override {
    connect_later(session);
  }
  void connect_later(const std::string& session) {
    after(uint32_t(20 + pick(400)), [this, session] {
      for (auto& client : clients)
        if (client->session() == session) client->connect(session);
    });
  }
  void close_transport(const std::string&) override {}
  void reply(sfu::RequestId id, const sfu::ApiReply& reply) override {
    auto found = open_requests_.find(id);
    ASSERT_NE(found, open_requests_.end()) << "two replies to one request";
    auto done = std::move(found->second);
    open_requests_.erase(found);
    done(reply);
  }
  void send_rtp(const std::string&, sfu::Bytes) override {}
  void send_rtcp(const std::string&, sfu::Bytes) override {}
  void media_started(const sfu::TrackAddress& track) override {
    post([this, track] { sfu_.on_media(track, now_us_); });
  }

  std::mt19937 random_;
  sfu::Forwarder forwarder_;
  sfu::SfuState sfu_;
  int64_t now_us_ = 1000000;
  std::vector<std::function<void()>> queue_;
  std::multimap<int64_t, std::function<void()>> timers_;
  std::map<sfu::RequestId, std::function<void(const sfu::ApiReply&)>> open_requests_;
  sfu::RequestId last_request_ = 0;
  std::set<std::string> disturbed_;  // sessions of whose requests one was answered falsely

 public:
  void sfu_connected(const std::string& session) { sfu_.on_connected(session, now_us_); }
  void sfu_closed(const std::string& session) { sfu_.on_closed(session, now_us_); }

 private:
  bool loud;
};

struct FakeCall : HttpCall {
  std::shared_ptr<bool> alive = std::make_shared<bool>(true);
};

HttpSend World::http(const std::string& who) {
  return [this, who](HttpRequest request, Callback<HttpReply> done) -> std::unique_ptr<HttpCall> {
    auto call = std::make_unique<FakeCall>();
    auto guarded = [alive = std::weak_ptr<bool>(call->alive),
                    done = std::move(done)](Result<HttpReply> reply) {
      if (alive.lock()) done(std::move(reply));
    };
    post([this, who, request = std::move(request), guarded = std::move(guarded)] {
      deliver(who, request, guarded);
    });
    return call;
  };
}

void World::deliver(const std::string& who, const HttpRequest& request, Callback<HttpReply> done) {
  ++requests;
  auto later = [this, done](Result<HttpReply> reply) {
    post([done, reply = std::move(reply)] { done(reply); });
  };
  auto error = [](ErrorKind kind) {
    Error error;
    error.kind = kind;
    error.message = "injected";
    return error;
  };
  std::string path = request.url.substr(request.url.find("/sessions/") + 10);
  std::string session = path.substr(0, path.find('/'));
  enum class Fault { none, refused, early, unavailable, gone, unreachable, lost, deaf, broken };
  Fault fault = Fault::none;
  if (chance(fault_percent)) {
    fault = static_cast<Fault>(1 + pick(8));
    ++faults;
    if (path.find("tracks/close") != std::string::npos && ++failed_closes[session] > 3)
      doubtful.insert(session);
  }
  note(who + " " + request.method + " " + path +
       (fault == Fault::none ? "" : " FAULT " + std::to_string(int(fault))));
  switch (fault) {
    case Fault::refused: return later(HttpReply{429, "", {{"retry-after", "1"}}});
    case Fault::early: return later(HttpReply{425, "{\"errorCode\":\"session_error\"}", {}});
    case Fault::unavailable:
      return later(HttpReply{503, "{\"errorCode\":\"temporarily_unavailable_error\"}", {}});
    case Fault::gone:
      // Sessions can go, but an application that is gone is another matter.
      if (session == "new") break;
      doubtful.insert(session);
      return later(HttpReply{410, "{\"errorCode\":\"session_error\"}", {}});
    case Fault::unreachable: return later(error(ErrorKind::unreachable));
    case Fault::lost: after(20000, [later, error] { later(error(ErrorKind::timeout)); }); return;
    case Fault::deaf:  // acted upon, and the reply lost
      disturbed_.insert(session);
      ask_sfu(request, [](const sfu::ApiReply&) {});
      after(20000, [later, error] { later(error(ErrorKind::timeout)); });
      return;
    case Fault::broken:  // acted upon, and an error in place of the reply
      disturbed_.insert(session);
      return ask_sfu(request, [later](const sfu::ApiReply&) {
        later(HttpReply{500, "{\"errorCode\":\"internal_error\"}", {}});
      });
    case Fault::none: break;
  }
  ask_sfu(request, [this, who, request, session, later](const sfu::ApiReply& reply) {
    note(who + "   " + std::to_string(reply.status) + " " + reply.body.substr(0, 160));
    EXPECT_NE(reply.status, 400) << request.url << " " << request.body << " -> " << reply.body;
    EXPECT_NE(reply.status, 401);
    EXPECT_NE(reply.status, 405);
    // An error out of order is the SFU's right only where it was told a lie before.
    if (reply.status == 406) {
      EXPECT_TRUE(disturbed_.count(session)) << request.url << " " << reply.body;
    }
    HttpReply http{reply.status, reply.body, {}};
    if (reply.retry_after_s)
      http.headers.emplace_back("retry-after", std::to_string(reply.retry_after_s));
    later(std::move(http));
  });
}

NegotiatorSettings negotiator_settings(uint64_t seed) {
  NegotiatorSettings settings;
  settings.seed = seed;
  return settings;
}

Client::Client(World& world, std::string name, uint32_t number)
    : world_(world),
      name_(std::move(name)),
      number_(number),
      negotiator_(negotiator_settings(number)),
      peer_(std::make_unique<FakePeer>(number * 100000)) {
  api_ = std::make_unique<ApiClient>(ApiClient::Settings{"http://sfu/v1", "demo", "secret", 20000},
                                     world.http(name_));
}

void Client::publish(std::string name) {
  TrackId id = next_track_++;
  world_.note(name_ + " > publish " + std::to_string(id) + " " + name);
  wants[id] = {true, name, ""};
  run(negotiator_.publish(id, std::move(name)));
}

void Client::subscribe(std::string session, std::string name) {
  TrackId id = next_track_++;
  world_.note(name_ + " > subscribe " + std::to_string(id) + " " + session.substr(0, 4) + "/" +
              name);
  wants[id] = {false, name, session};
  run(negotiator_.subscribe(id, std::move(session), std::move(name)));
}

void Client::drop(TrackId track) {
  world_.note(name_ + " > drop " + std::to_string(track));
  if (wants[track].state == Want::failed)
    wants.erase(track);
  else
    wants[track].dropped = true;
  run(negotiator_.drop(track));
  on_change();
}

void Client::connect(const std::string& session) {
  if (connected_) return;
  if (!peer_->has_remote) {  // the other side is ready first: checks go on
    world_.after(50, [this, session, number = peer_number_] {
      if (number == peer_number_ && this->session() == session) connect(session);
    });
    return;
  }
  world_.note(name_ + " > connected");
  connected_ = true;
  world_.sfu_connected(session);
  run(negotiator_.on_connection(PeerState::connected));
  on_change();
}

void Client::lose_connection() {
  if (!peer_->has_remote || session().empty()) return;
  world_.note(name_ + " > connection lost");
  world_.sfu_closed(session());
  run(negotiator_.on_connection(PeerState::failed));
}

void Client::begin(const char* what) {
  world_.note(name_ + " < " + what);
  ++in_flight_;
  EXPECT_EQ(in_flight_, 1u) << name_ << ": " << what << " while another exchange is in flight";
}

template <class T>
std::function<void(Result<T>)> Client::feed(const char* name,
                                            Actions (Negotiator::*input)(Result<T>)) {
  return [this, name, input, number = peer_number_](Result<T> result) {
    if (number != peer_number_) return;
    if (name) --in_flight_;
    if (name) world_.note(name_ + " > " + name + (result ? "" : " " + result.error().message));
    run((negotiator_.*input)(std::move(result)));
  };
}

void Client::run(Actions actions) {
  for (const Action& action : actions) {
    EXPECT_FALSE(gave_up) << name_ << ": something follows a Fail";
    perform(action);
  }
}

void Client::perform(const Action& action) {
  auto say = [this](const std::string& what) { world_.note(name_ + " < " + what); };
  std::visit(
      Overloaded{
          [&](const action::CreateSession&) {
            say("create session");
            EXPECT_EQ(session(), "");
            api_->new_session({}, feed<NewSessionReply>(nullptr, &Negotiator::on_session));
          },
          [&](const action::NewPeer&) {
            say("new peer");
            api_->cancel_all();
            ++peer_number_;
            in_flight_ = 0;
            connected_ = false;
            peer_ = std::make_unique<FakePeer>(number_ * 100000 + peer_number_ * 100);
          },
          [&](const action::CreateOffer& a) {
            begin("create offer");
            std::set<TrackId> all(a.tracks.begin(), a.tracks.end());
            for (const auto& [id, want] : wants)
              if (want.push && want.state == Want::live && !want.dropped) {
                EXPECT_TRUE(all.count(id)) << name_ << ": an offer leaves out " << id;
              }
            world_.post([this, tracks = a.tracks,
                         done = feed<Negotiator::Offer>("offer", &Negotiator::on_offer),
                         number = peer_number_] {
              if (number != peer_number_) return;
              done(peer_->offer(tracks));
            });
          },
          [&](const action::PostTracks& a) {
            begin("tracks/new");
            EXPECT_EQ(a.session_id, session());
            EXPECT_LE(a.request.tracks.size(), 32u);
            std::set<std::string> items;
            for (const TrackObject& track : a.request.tracks) {
              EXPECT_EQ(*track.location == Location::local, a.request.description.has_value());
              for (TrackId id : held_[a.session_id])
                EXPECT_FALSE(wants[id].name == track.track_name &&
                             wants[id].publisher == track.session_id &&
                             wants[id].push == (*track.location == Location::local) &&
                             (wants[id].push ? wants[id].mid == track.mid : !wants[id].dropped))
                    << name_ << ": " << track.track_name << " is asked for twice";
            }
            api_->new_tracks(a.session_id, a.request,
                             feed<TracksReply>("tracks", &Negotiator::on_tracks));
          },
          [&](const action::SetRemote& a) {
            begin("set remote");
            world_.post([this, description = a.description,
                         done = feed<Done>("remote", &Negotiator::on_remote_set),
                         number = peer_number_] {
              if (number != peer_number_) return;
              if (description.type == SdpType::offer)
                peer_->set_offer(description.sdp);
              else
                peer_->has_remote = true;
              done(Done{});
            });
          },
          [&](const action::CreateAnswer&) {
            begin("create answer");
            world_.post([this, done = feed<std::string>("answer", &Negotiator::on_answer),
                         number = peer_number_] {
              if (number != peer_number_) return;
              peer_->has_remote = true;
              done(peer_->answer());
            });
          },
          [&](const action::PutAnswer& a) {
            begin("renegotiate");
            EXPECT_EQ(a.session_id, session());
            api_->renegotiate(a.session_id, {{SdpType::answer, a.sdp}},
                              feed<RenegotiateReply>("put", &Negotiator::on_answer_put));
          },
          [&](const action::CloseTracks& a) {
            begin("tracks/close");
            EXPECT_EQ(a.session_id, session());
            EXPECT_FALSE(a.mids.empty());
            for (const std::string& mid : a.mids) EXPECT_NE(mid, "");
            api_->close_tracks(a.session_id, {a.mids, true, {}},
                               feed<TracksReply>("closed", &Negotiator::on_closed));
          },
          [&](const action::StartTimer& a) {
            world_.after(a.delay_ms, [this, number = ++timer_number_] {
              if (number == timer_number_) run(negotiator_.on_timer());
            });
          },
          [&](const action::StopTimer&) { ++timer_number_; },
          [&](const action::SessionChanged& a) {
            say("session " + a.session_id);
            for (auto& [id, want] : wants)
              if (want.state == Want::live) want.state = Want::open;
            on_change();
          },
          [&](const action::MapMid& a) { EXPECT_TRUE(wants.count(a.track)); },
          [&](const action::TrackLive& a) {
            say("live " + std::to_string(a.track) + " at " + a.mid);
            ASSERT_TRUE(wants.count(a.track));
            EXPECT_FALSE(wants[a.track].dropped);
            EXPECT_NE(a.mid, "");
            EXPECT_TRUE(held_[session()].insert(a.track).second)
                << name_ << ": live twice in one session";
            wants[a.track].state = Want::live;
            wants[a.track].mid = a.mid;
            on_change();
          },
          [&](const action::TrackClosed& a) {
            say("closed " + std::to_string(a.track));
            ASSERT_TRUE(wants.count(a.track));
            EXPECT_TRUE(wants[a.track].dropped);
            wants.erase(a.track);
            for (auto& [session, tracks] : held_) tracks.erase(a.track);
          },
          [&](const action::TrackFailed& a) {
            say("failed " + std::to_string(a.track) + " " + a.error.code +
                (a.retrying ? " retrying" : ""));
            ASSERT_TRUE(wants.count(a.track));
            if (a.retrying) return;
            if (wants[a.track].dropped)
              wants.erase(a.track);
            else
              wants[a.track].state = Want::failed;
          },
          [&](const action::Reconnecting& a) {
            say(std::string("reconnecting ") + to_string(a.cause.kind));
          },
          [&](const action::Fail& a) {
            say("FAIL " + a.error.message);
            story = a.error.message;
            gave_up = true;
          },
      },
      action);
}

struct Tally {
  std::size_t requests = 0, faults = 0, live = 0, failed = 0, gave_up = 0;
};

// What viewers do: play everything the publishers have now.
void follow(Client& player, const std::vector<Client*>& publishers, bool all_at_once) {
  std::set<std::pair<std::string, std::string>> there;
  for (Client* publisher : publishers)
    for (const auto& [id, want] : publisher->wants)
      if (!want.dropped && !publisher->session().empty())
        there.insert({publisher->session(), want.name});
  std::vector<TrackId> gone;
  for (const auto& [id, want] : player.wants) {
    if (want.dropped) continue;
    if (!there.erase({want.publisher, want.name})) gone.push_back(id);
  }
  for (TrackId id : gone) player.drop(id);
  for (const auto& [session, name] : there) {
    player.subscribe(session, name);
    if (!all_at_once) break;
  }
}

void run(uint32_t seed, Tally& tally) {
  World world(seed);
  std::vector<Client*> publishers, players;
  int number_of_publishers = 1 + world.pick(2), number_of_players = 1 + world.pick(2);
  for (int i = 0; i < number_of_publishers + number_of_players; ++i) {
    bool publishes = i < number_of_publishers;
    world.clients.push_back(std::make_unique<Client>(
        world, (publishes ? "pub" : "play") + std::to_string(i), seed * 10 + uint32_t(i) + 1));
    (publishes ? publishers : players).push_back(world.clients.back().get());
  }
  // Media flows as soon as there is a way for it.
  for (Client* publisher : publishers)
    publisher->on_change = [&world, publisher] {
      if (!publisher->connected()) return;
      for (const auto& [id, want] : publisher->wants)
        if (want.push && want.state == Client::Want::live)
          world.post([&world, publisher, id = id] {
            auto found = publisher->wants.find(id);
            if (found == publisher->wants.end() || !publisher->connected()) return;
            if (uint32_t ssrc = publisher->ssrc(found->second.mid))
              world.media(publisher->session(), ssrc);
          });
    };

  world.fault_percent = world.pick(3) == 0 ? 0 : 5 + world.pick(25);
  for (int i = 0; i < 150 && !testing::Test::HasFailure(); ++i) {
    if (!world.step() || world.chance(12)) {
      Client& publisher = *publishers[std::size_t(world.pick(int(publishers.size())))];
      Client& player = *players[std::size_t(world.pick(int(players.size())))];
      switch (world.pick(9)) {
        case 0:
        case 1:
        case 2: {
          // Names come back after they were dropped.
          std::string name = "t" + std::to_string(world.pick(6));
          bool taken = false;
          for (const auto& [id, want] : publisher.wants)
            taken = taken || (!want.dropped && want.name == name);
          if (!taken) publisher.publish(name);
          break;
        }
        case 3:
        case 4:
          if (!publisher.wants.empty()) {
            auto it = publisher.wants.begin();
            std::advance(it, world.pick(int(publisher.wants.size())));
            if (!it->second.dropped) publisher.drop(it->first);
          }
          break;
        case 5:
        case 6: follow(player, publishers, world.chance(50)); break;
        case 7:
          if (world.fault_percent && world.chance(30)) world.restart_sfu();
          break;
        case 8:
          if (world.fault_percent)
            world.clients[std::size_t(world.pick(int(world.clients.size())))]->lose_connection();
          break;
      }
    }
  }

  // The faults stop; everything must come to rest.
  tally.faults += world.faults;
  world.fault_percent = 0;
  if (publishers[0]->wants.empty() && !publishers[0]->gave_up) publishers[0]->publish("last");
  bool settled = false;
  int idle = 0;
  for (int i = 0; i < 20000 && !settled && !testing::Test::HasFailure(); ++i) {
    bool more = world.step();
    if (more && i % 50) continue;
    for (Client* player : players)
      if (!player->gave_up) follow(*player, publishers, true);
    settled = !world.watch();
    for (const auto& client : world.clients) settled = settled && client->settled();
    // A player's want for the publication of one that gave up cannot end.
    idle = more ? 0 : idle + 1;
    if (idle > 2) break;
  }
  bool excused = false;
  std::size_t failed_before = tally.failed;
  for (Client* publisher : publishers) excused = excused || publisher->gave_up;
  EXPECT_TRUE(settled || excused) << "wants are left open";
  for (const auto& client : world.clients) {
    if (client->gave_up) {
      ++tally.gave_up;
      EXPECT_GT(world.faults, 0u) << "gave up without a reason: " << client->story;
      continue;
    }
    std::size_t pushes = 0, pulls = 0;
    for (const auto& [id, want] : client->wants) {
      if (want.state == Client::Want::live)
        ++(want.push ? pushes : pulls);
      else
        ++tally.failed;
    }
    tally.live += pushes + pulls;
    if (!settled || world.doubtful.count(client->session())) continue;
    // What we think is live is what the SFU holds, no more and no less.
    EXPECT_EQ(world.sections(client->session(), true), pushes);
    EXPECT_EQ(world.sections(client->session(), false), pulls);
    if (!world.faults) {
      EXPECT_EQ(tally.failed, failed_before);
    }
  }
  tally.requests += world.requests;
}

TEST(NegotiatorVsSfu, EachWantEndsLiveWhateverHappens) {
  const char* one = std::getenv("CFR_SEED");
  const char* many = std::getenv("CFR_RUNS");
  uint32_t first = one ? uint32_t(std::strtoul(one, nullptr, 10)) : 1;
  uint32_t runs = one ? 1 : many ? uint32_t(std::strtoul(many, nullptr, 10)) : 2000;
  Tally tally;
  for (uint32_t seed = first; seed < first + runs; ++seed) {
    SCOPED_TRACE("CFR_SEED=" + std::to_string(seed));
    run(seed, tally);
    if (HasFailure()) break;
  }
  std::cout << runs << " runs, " << tally.requests << " requests, " << tally.faults << " faults, "
            << tally.live << " tracks live at the end, " << tally.failed << " failed, "
            << tally.gave_up << " clients gave up\n";
  if (one || HasFailure()) return;
  EXPECT_GT(tally.live, runs) << "the runs must amount to something";
}

}  // namespace
}  // namespace cfr
