// What each API call does at the local SFU and answers, without a network: SfuState with a
// Forwarder and time as a number.
#include "sfu/state.h"

#include <gtest/gtest.h>

#include <sstream>

#include "unit/helpers.h"
#include "wire/json.h"

namespace cfr::sfu {
namespace {

using test::count;
using test::fixture;
using test::replaced;

// The sections of a description, each from its m-line on.
std::vector<std::string> sections_of(const std::string& sdp) {
  std::vector<std::string> sections;
  for (std::size_t at = sdp.find("m="); at != std::string::npos;) {
    std::size_t next = sdp.find("\r\nm=", at);
    sections.push_back(sdp.substr(at, next == std::string::npos ? next : next + 2 - at));
    at = next == std::string::npos ? next : next + 2;
  }
  return sections;
}

// A client's m-section.
struct Media {
  std::string mid, kind = "video", direction = "sendonly";
  uint32_t ssrc = 0;
  std::string more;
  bool stopped = false;
};

std::string client_sdp(const std::vector<Media>& sections, const std::string& ufrag = "clnt",
                       const std::string& setup = "actpass") {
  std::string out = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE";
  for (const Media& media : sections)
    if (!media.stopped) out += " " + media.mid;
  out += "\r\n";
  for (const Media& media : sections) {
    bool video = media.kind == "video";
    out += "m=" + media.kind + (media.stopped ? " 0" : " 9") + " UDP/TLS/RTP/SAVPF " +
           (video ? "96 97" : "111") + "\r\nc=IN IP4 0.0.0.0\r\n";
    out +=
        "a=mid:" + media.mid + "\r\na=" + (media.stopped ? "inactive" : media.direction) + "\r\n";
    out += "a=ice-ufrag:" + ufrag + "\r\na=ice-pwd:passwordpasswordpassword\r\n";
    out += "a=fingerprint:sha-256 AA:BB\r\na=setup:" + setup + "\r\na=rtcp-mux\r\n";
    out += "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n";
    out += video ? "a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\n"
                   "a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n"
                 : "a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n";
    if (media.ssrc) out += "a=ssrc:" + std::to_string(media.ssrc) + " cname:x\r\n";
    out += media.more;
  }
  return out;
}

// A client's answer to an offer of the SFU: takes all of it.
std::string answer_to(const std::string& offer, const std::string& ufrag = "clnt",
                      const std::string& setup = "active") {
  std::string out;
  std::istringstream lines(offer);
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind("a=ice-ufrag:", 0) == 0) line = "a=ice-ufrag:" + ufrag + "\r";
    if (line.rfind("a=ice-pwd:", 0) == 0) line = "a=ice-pwd:passwordpasswordpassword\r";
    if (line.rfind("a=fingerprint:", 0) == 0) line = "a=fingerprint:sha-256 AA:BB\r";
    if (line.rfind("a=setup:", 0) == 0) line = "a=setup:" + setup + "\r";
    if (line == "a=ice-lite\r" || line.rfind("a=candidate", 0) == 0) continue;
    if (line.rfind("a=ssrc", 0) == 0 || line.rfind("a=msid:", 0) == 0) continue;
    if (line == "a=sendonly\r")
      line = "a=recvonly\r";
    else if (line == "a=recvonly\r")
      line = "a=sendonly\r";
    out += line + "\n";
  }
  return out;
}

struct World : SfuState::Hooks, Forwarder::Output {
  explicit World(SfuSettings settings = {}) : settings(settings) {
    forwarder = std::make_unique<Forwarder>(*this, 0, 1);
    state = std::make_unique<SfuState>(settings, *this, *forwarder, 7);
  }

  // Hooks
  std::optional<LocalTransport> open_transport(const std::string& session) override {
    if (no_transport) return std::nullopt;
    opened.push_back(session);
    LocalTransport local;
    local.ufrag = "ours";
    local.pwd = "ourPasswordOfTwentyTwo";
    local.fingerprint = "11:22";
    local.address = "127.0.0.1";
    local.port = 5000;
    return local;
  }
  void set_remote(const std::string& session, const RemoteTransport& remote) override {
    remotes[session] = remote;
  }
  void close_transport(const std::string& session) override { closed.push_back(session); }
  void expect_another_connection(const std::string& session) override {
    replaced.push_back(session);
  }
  void reply(RequestId request, const ApiReply& reply) override {
    EXPECT_FALSE(replies.count(request)) << "a second reply";
    replies[request] = reply;
  }
  // Output
  void send_rtp(const std::string& session, Bytes) override { ++sent[session]; }
  void send_rtcp(const std::string&, Bytes) override {}
  void media_started(const TrackAddress& track) override { started.push_back(track); }

  RequestId begin(const std::string& method, const std::string& path, const std::string& body = "",
                  const std::string& bearer = "") {
    state->on_request(++last, {method, "/apps/demo" + path, body, bearer}, now);
    return last;
  }
  ApiReply call(const std::string& method, const std::string& path, const std::string& body = "",
                const std::string& bearer = "") {
    RequestId id = begin(method, path, body, bearer);
    EXPECT_TRUE(replies.count(id)) << method << " " << path << " waits";
    return replies[id];
  }
  bool answered(RequestId id) const { return replies.count(id) > 0; }
  // Time goes by, in the steps of the server.
  void wait(int64_t ms) {
    for (int64_t end = now + ms * 1000; now < end;) {
      now += std::min<int64_t>(100 * 1000, end - now);
      state->on_tick(now);
    }
  }

  std::string new_session() {
    auto reply = json::read_new_session_reply(call("POST", "/sessions/new").body);
    EXPECT_TRUE(reply);
    return reply ? reply->session_id : "";
  }
  TracksReply tracks_of(const ApiReply& reply) {
    EXPECT_EQ(reply.status, 200) << reply.body;
    auto parsed = json::read_tracks_reply(reply.body);
    EXPECT_TRUE(parsed);
    return parsed ? *parsed : TracksReply{};
  }
  ApiReply push(const std::string& session, const std::string& sdp,
                std::vector<std::pair<std::string, std::string>> tracks) {
    TracksRequest request;
    request.description = SessionDescription{SdpType::offer, sdp};
    for (auto& [mid, name] : tracks) {
      TrackObject item;
      item.location = Location::local;
      item.mid = mid;
      item.track_name = name;
      request.tracks.push_back(item);
    }
    return call("POST", "/sessions/" + session + "/tracks/new", json::write(request));
  }
  std::string pull_body(const std::vector<std::pair<std::string, std::string>>& tracks,
                        const std::string& sdp = "") {
    TracksRequest request;
    if (!sdp.empty()) request.description = SessionDescription{SdpType::offer, sdp};
    for (auto& [session, name] : tracks) {
      TrackObject item;
      item.location = Location::remote;
      item.session_id = session;
      item.track_name = name;
      request.tracks.push_back(item);
    }
    return json::write(request);
  }
  TracksReply pull(const std::string& session,
                   const std::vector<std::pair<std::string, std::string>>& tracks,
                   const std::string& sdp = "") {
    return tracks_of(call("POST", "/sessions/" + session + "/tracks/new", pull_body(tracks, sdp)));
  }
  ApiReply renegotiate(const std::string& session, const std::string& sdp,
                       SdpType type = SdpType::answer) {
    return call("PUT", "/sessions/" + session + "/renegotiate",
                json::write(RenegotiateRequest{{type, sdp}}));
  }
  ApiReply close(const std::string& session, std::vector<std::string> mids, bool force,
                 const std::string& sdp = "") {
    CloseRequest request{std::move(mids), force, {}};
    if (!sdp.empty()) request.description = SessionDescription{SdpType::offer, sdp};
    return call("PUT", "/sessions/" + session + "/tracks/close", json::write(request));
  }
  SessionState inspect(const std::string& session) {
    auto parsed = json::read_session_state(call("GET", "/sessions/" + session).body);
    EXPECT_TRUE(parsed);
    return parsed ? *parsed : SessionState{};
  }
  void connect(const std::string& session) { state->on_connected(session, now); }
  // A packet of a track; its first makes the track known to pullers.
  void media(const std::string& session, uint32_t ssrc, int payload_type = 96) {
    std::vector<uint8_t> packet(12);
    packet[0] = 0x80;
    packet[1] = uint8_t(payload_type);
    write16(&packet[2], ++sequence);
    write32(&packet[4], uint32_t(now / 1000 * 90));
    write32(&packet[8], ssrc);
    if (rid) {  // one-byte header extension 5
      packet[0] |= 0x10;
      for (int byte : {0xbe, 0xde, 0x00, 0x01, 0x50, int(rid), 0x00, 0x00})
        packet.push_back(uint8_t(byte));
    }
    packet.insert(packet.end(), 8, 0x10);
    forwarder->on_rtp(session, packet, now);
    for (const TrackAddress& track : std::exchange(started, {})) state->on_media(track, now);
  }
  // A connected session that publishes video "v" with this SSRC.
  std::string publisher(uint32_t ssrc = 1000, bool with_media = true,
                        const std::string& more = "") {
    std::string session = new_session();
    push(session, client_sdp({{"0", "video", "sendonly", ssrc, more}}), {{"0", "v"}});
    connect(session);
    if (with_media) media(session, ssrc);
    return session;
  }

  SfuSettings settings;
  std::unique_ptr<Forwarder> forwarder;
  std::unique_ptr<SfuState> state;
  std::map<RequestId, ApiReply> replies;
  std::map<std::string, RemoteTransport> remotes;
  std::map<std::string, unsigned> sent;
  std::vector<std::string> opened, closed, replaced;
  std::vector<TrackAddress> started;
  RequestId last = 0;
  int64_t now = 1000000 * 1000;
  uint16_t sequence = 0;
  char rid = 0;  // of the packets
  bool no_transport = false;
};

void expect_error(const ApiReply& reply, int status, const std::string& code,
                  const std::string& text = "") {
  EXPECT_EQ(reply.status, status) << reply.body;
  ApiError error = json::read_api_error(reply.body);
  EXPECT_EQ(error.code, code);
  EXPECT_FALSE(error.description.empty());
  EXPECT_NE(error.description.find(text), std::string::npos) << error.description;
}

// --- sessions --------------------------------------------------------------------------------

TEST(SfuSessions, AreMadeWithoutABody) {
  World world;
  ApiReply reply = world.call("POST", "/sessions/new");
  EXPECT_EQ(reply.status, 201);
  auto parsed = json::read_new_session_reply(reply.body);
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->session_id.size(), 32u);
  EXPECT_EQ(parsed->session_id.find_first_not_of("0123456789abcdef"), std::string::npos);
  EXPECT_FALSE(parsed->description);
  EXPECT_NE(world.new_session(), parsed->session_id);
}

TEST(SfuSessions, ABareObjectIsRefused) {
  World world;
  expect_error(world.call("POST", "/sessions/new", "{}"), 400, "decoding_error");
  expect_error(world.call("POST", "/sessions/new", "{"), 400, "decoding_error");
  expect_error(world.call("POST", "/sessions/new", R"({"sessionDescription":{"type":"offer"}})"),
               400, "decoding_error");
}

TEST(SfuSessions, AnOfferIsAnsweredAndItsTracksIgnored) {
  World world;
  std::string body = json::write(
      NewSessionRequest{SessionDescription{SdpType::offer, client_sdp({{"0"}, {"1", "audio"}})}});
  body.insert(1, R"("tracks":[{"location":"local","mid":"0","trackName":"x"}],)");
  ApiReply reply = world.call("POST", "/sessions/new", body);
  EXPECT_EQ(reply.status, 201);
  auto parsed = json::read_new_session_reply(reply.body);
  ASSERT_TRUE(parsed && parsed->description);
  EXPECT_EQ(parsed->description->type, SdpType::answer);
  EXPECT_EQ(count(parsed->description->sdp, "a=recvonly\r\n"), 2u);
  EXPECT_TRUE(world.inspect(parsed->session_id).tracks.empty());
  EXPECT_EQ(world.remotes[parsed->session_id].ufrag, "clnt");

  // The second start-up: wait for connected, then name the tracks in a second offer.
  world.connect(parsed->session_id);
  TracksReply tracks = world.tracks_of(world.push(
      parsed->session_id, client_sdp({{"0"}, {"1", "audio"}}), {{"0", "v"}, {"1", "a"}}));
  ASSERT_EQ(tracks.tracks.size(), 2u);
  EXPECT_EQ(tracks.tracks[1].mid, "1");
  EXPECT_FALSE(tracks.requires_immediate_renegotiation);
}

TEST(SfuSessions, AnAnswerOrABadOfferMakesNone) {
  World world;
  auto with = [&](SdpType type, const std::string& sdp) {
    return world.call("POST", "/sessions/new",
                      json::write(NewSessionRequest{SessionDescription{type, sdp}}));
  };
  expect_error(with(SdpType::answer, client_sdp({{"0"}})), 406, "invalid_session_description");
  expect_error(with(SdpType::offer, "v=0"), 406, "invalid_session_description",
               "missing termination");
  expect_error(with(SdpType::offer, replaced(client_sdp({{"0"}}), "a=ice-ufrag", "a=nothing")), 400,
               "invalid_session_description", "SDP contains no ice-ufrag");
  EXPECT_EQ(world.opened.size(), world.closed.size());
}

TEST(SfuSessions, AreBoundedInNumber) {
  SfuSettings settings;
  settings.max_sessions = 3;
  World world(settings);
  for (int i = 0; i < 3; ++i) world.new_session();
  expect_error(world.call("POST", "/sessions/new"), 503, "temporarily_unavailable_error");
}

TEST(SfuSessions, WithoutATransportThereIsNone) {
  World world;
  world.no_transport = true;
  expect_error(world.call("POST", "/sessions/new"), 500, "internal_error");
}

TEST(SfuSessions, ThatNeverConnectExpire) {
  World world;
  std::string session = world.new_session();
  world.wait(119000);
  EXPECT_EQ(world.call("GET", "/sessions/" + session).status, 200);
  world.wait(2000);
  expect_error(world.call("GET", "/sessions/" + session), 410, "session_error");
  expect_error(world.close(session, {"0"}, true), 410, "session_error");
  EXPECT_EQ(world.closed, std::vector<std::string>{session});
}

TEST(SfuSessions, ThatAreSilentForHalfAMinuteAreGone) {
  World world;
  std::string session = world.publisher();
  world.wait(31000);
  expect_error(world.call("GET", "/sessions/" + session), 410, "session_error", "disconnected");
}

TEST(SfuSessions, WhoseClientClosedTheConnectionAreGoneAtOnce) {
  World world;
  std::string publisher = world.publisher(), player = world.new_session();
  world.state->on_closed(publisher, world.now);
  expect_error(world.call("GET", "/sessions/" + publisher), 410, "session_error");
  EXPECT_EQ(world.pull(player, {{publisher, "v"}}).tracks[0].error.code, "not_found_track_error");
  for (const auto& session : world.state->sessions())
    EXPECT_EQ(session.pushes, 0u) << "what it had is kept";
}

TEST(SfuSessions, AreForgottenByARestart) {
  World world;
  std::string session = world.publisher();
  world.state->forget_all();
  expect_error(world.call("GET", "/sessions/" + session), 404, "not_found");
}

// --- who may call what -----------------------------------------------------------------------

TEST(SfuRoutes, AnswerWrongCallsClearly) {
  SfuSettings settings;
  settings.app_secret = "secret";
  World world(settings);
  auto session =
      json::read_new_session_reply(world.call("POST", "/sessions/new", "", "secret").body)
          ->session_id;
  const struct {
    const char *method, *path, *bearer;
    int status;
    const char* code;
  } cases[] = {
      {"POST", "/sessions/new", "", 401, "unauthorized"},
      {"POST", "/sessions/new", "secreT", 401, "unauthorized"},
      {"POST", "/sessions/new", "secretsecret", 401, "unauthorized"},
      {"POST", "/sessions/new", "secre", 401, "unauthorized"},
      {"GET", "/sessions/new", "secret", 405, "method_not_allowed"},
      {"DELETE", "/sessions/SESSION", "secret", 405, "method_not_allowed"},
      {"POST", "/sessions/SESSION/renegotiate", "secret", 405, "method_not_allowed"},
      {"POST", "/sessions/SESSION/tracks/close", "secret", 405, "method_not_allowed"},
      {"GET", "/sessions/SESSION/nothing", "secret", 404, "not_found"},
      {"GET", "/nothing", "secret", 404, "not_found"},
      {"GET", "/sessions/0123456789abcdef0123456789abcdef", "secret", 404, "not_found"},
      {"POST", "/sessions/SESSION/datachannels/new", "secret", 501, "not_implemented"},
      {"POST", "/adapters/websocket/new", "secret", 501, "not_implemented"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(std::string(c.method) + " " + c.path);
    expect_error(world.call(c.method, replaced(c.path, "SESSION", session), "", c.bearer), c.status,
                 c.code);
  }
  world.state->on_request(900, {"POST", "/apps/other/sessions/new", "", "secret"}, world.now);
  expect_error(world.replies[900], 404, "not_found");
}

TEST(SfuRoutes, FiftyCallsASecondOnASessionAreEnough) {
  World world;
  std::string session = world.new_session(), other = world.new_session();
  for (int i = 0; i < 50; ++i)
    ASSERT_EQ(world.call("GET", "/sessions/" + session).status, 200) << i;
  ApiReply reply = world.call("GET", "/sessions/" + session);
  EXPECT_EQ(reply.status, 429);
  EXPECT_EQ(reply.retry_after_s, 1u);
  EXPECT_FALSE(json::read_api_error(reply.body).code.empty());
  EXPECT_EQ(world.call("GET", "/sessions/" + other).status, 200);
  world.wait(1100);
  EXPECT_EQ(world.call("GET", "/sessions/" + session).status, 200);
}

TEST(SfuRoutes, TracksNewChecksItsList) {
  World world;
  std::string path = "/sessions/" + world.new_session() + "/tracks/new";
  std::string item = R"({"location":"remote","sessionId":"s","trackName":"t"})", many = item;
  for (int i = 0; i < 64; ++i) many += "," + item;
  const struct {
    std::string body;
    int status;
    const char *code, *text;
  } cases[] = {
      {"", 400, "decoding_error", ""},
      {"[]", 400, "decoding_error", ""},
      {R"({"tracks":{}})", 400, "decoding_error", ""},
      {R"({"tracks":[]})", 406, "invalid_params", "Expecting at least 1 track"},
      {R"({})", 406, "invalid_params", "Expecting at least 1 track"},
      {R"({"tracks":[)" + many + "]}", 406, "invalid_params", "Expecting at most 64 track"},
      {R"({"tracks":[{"trackName":"t"}]})", 406, "invalid_params", "location"},
      {R"({"tracks":[)" + item + R"(,{"location":"local","mid":"0","trackName":"u"}]})", 406,
       "invalid_params", "not both"},
      {R"({"tracks":[{"location":"remote","trackName":"t"}]})", 406, "invalid_params",
       "Missing sessionId"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.body.substr(0, 80));
    expect_error(world.call("POST", path, c.body), c.status, c.code, c.text);
  }
}

// --- publishing ------------------------------------------------------------------------------

TEST(SfuPush, IsAnsweredInTheOrderOfTheOffer) {
  World world;
  std::string session = world.new_session();
  TracksReply reply = world.tracks_of(
      world.push(session, fixture("chromium-publish.sdp"), {{"0", "video"}, {"1", "audio"}}));
  EXPECT_FALSE(reply.requires_immediate_renegotiation);
  ASSERT_TRUE(reply.description);
  EXPECT_EQ(reply.description->type, SdpType::answer);
  auto sections = sections_of(reply.description->sdp);
  ASSERT_EQ(sections.size(), 2u);
  EXPECT_EQ(sections[0].rfind("m=video 9 ", 0), 0u);
  EXPECT_EQ(count(sections[0], "a=recvonly\r\n"), 1u);
  EXPECT_EQ(count(sections[0], "a=rtpmap:96 VP8/90000\r\n"), 1u) << "the client's numbers";
  EXPECT_EQ(count(sections[0], "a=fmtp:97 apt=96\r\n"), 1u);
  EXPECT_EQ(count(sections[0], "a=extmap:9 urn:ietf:params:rtp-hdrext:sdes:mid\r\n"), 1u);
  EXPECT_EQ(count(sections[0], "ulpfec"), 0u);
  EXPECT_EQ(count(sections[1], "a=rtpmap:111 opus/48000/2\r\n"), 1u);
  EXPECT_EQ(count(sections[1], "telephone-event"), 0u);
  ASSERT_EQ(reply.tracks.size(), 2u);
  EXPECT_EQ(reply.tracks[0].mid, "0");
  EXPECT_EQ(reply.tracks[0].track_name, "video");
}

TEST(SfuPush, OfOtherStacksIsTaken) {
  const struct {
    const char *file, *video, *audio, *line;
  } cases[] = {
      {"firefox-publish.sdp", "1", "0", "a=rtpmap:120 VP8/90000\r\n"},
      {"pion-publish.sdp", "0", "1", "a=rtpmap:96 opus/48000/2\r\n"},
      {"webrtcbin-publish.sdp", "video0", "audio1", "a=rtpmap:96 H264/90000\r\n"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.file);
    World world;
    std::string session = world.new_session();
    TracksReply reply = world.tracks_of(
        world.push(session, fixture(c.file), {{c.video, "video"}, {c.audio, "audio"}}));
    for (const TrackObject& track : reply.tracks) EXPECT_FALSE(track.error) << track.error.code;
    ASSERT_TRUE(reply.description);
    EXPECT_EQ(count(reply.description->sdp, c.line), 1u) << reply.description->sdp;
    EXPECT_EQ(count(reply.description->sdp, "a=recvonly\r\n"), 2u);
    EXPECT_EQ(count(reply.description->sdp, " 9 UDP/TLS/RTP/SAVPF"), 2u);
  }
}

TEST(SfuPush, OfSimulcastReceivesTheLayers) {
  World world;
  std::string session = world.new_session();
  TracksReply reply =
      world.tracks_of(world.push(session, fixture("chromium-simulcast.sdp"), {{"0", "v"}}));
  ASSERT_TRUE(reply.description);
  EXPECT_EQ(count(reply.description->sdp, "a=simulcast:recv f;h;q\r\n"), 1u);
  EXPECT_EQ(count(reply.description->sdp, "a=rid:h recv\r\n"), 1u);
}

TEST(SfuPush, DiscoversTracksByItself) {
  World world;
  std::string session = world.new_session();
  TracksRequest request;
  request.description = SessionDescription{SdpType::offer, fixture("chromium-publish.sdp")};
  request.auto_discover = true;
  TracksReply reply = world.tracks_of(
      world.call("POST", "/sessions/" + session + "/tracks/new", json::write(request)));
  ASSERT_EQ(reply.tracks.size(), 2u);
  EXPECT_EQ(reply.tracks[0].kind, "video");
  EXPECT_EQ(reply.tracks[1].kind, "audio");
  EXPECT_FALSE(reply.tracks[0].track_name.empty());
  EXPECT_NE(reply.tracks[0].track_name, reply.tracks[1].track_name);
}

TEST(SfuPush, DiscoversWhatTheOfferThatMadeTheSessionBrought) {
  World world;
  const SessionDescription offer{SdpType::offer, client_sdp({{"0"}, {"1", "audio"}})};
  auto made = json::read_new_session_reply(
      world.call("POST", "/sessions/new", json::write(NewSessionRequest{offer})).body);
  ASSERT_TRUE(bool(made));
  world.connect(made->session_id);
  TracksRequest request;
  request.description = offer;
  request.auto_discover = true;
  const std::string path = "/sessions/" + made->session_id + "/tracks/new";
  EXPECT_EQ(world.tracks_of(world.call("POST", path, json::write(request))).tracks.size(), 2u);
  EXPECT_TRUE(world.tracks_of(world.call("POST", path, json::write(request))).tracks.empty())
      << "each once";
}

TEST(SfuPush, AcceptsADataChannelsSectionWhichIsNoTrack) {
  World world;
  std::string session = world.new_session();
  TracksReply reply = world.tracks_of(
      world.push(session, fixture("chromium-data.sdp"), {{"0", "a"}, {"1", "data"}}));
  auto sections = sections_of(reply.description->sdp);
  ASSERT_EQ(sections.size(), 2u);
  EXPECT_EQ(sections[1].rfind("m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n", 0), 0u);
  EXPECT_EQ(count(reply.description->sdp, "a=group:BUNDLE 0 1\r\n"), 1u);
  EXPECT_FALSE(reply.tracks[0].error);
  EXPECT_EQ(reply.tracks[1].error.code, "invalid_params");
}

TEST(SfuPush, AnOfferOfDataChannelsAloneConnects) {
  World world;
  std::string sdp = client_sdp({{"0"}});
  const std::string video = "m=video 9 UDP/TLS/RTP/SAVPF 96 97";
  sdp.replace(sdp.find(video), video.size(), "m=application 9 UDP/DTLS/SCTP webrtc-datachannel");
  TracksRequest request;
  request.description = SessionDescription{SdpType::offer, sdp};
  request.auto_discover = true;
  std::string session = world.new_session();
  TracksReply reply = world.tracks_of(
      world.call("POST", "/sessions/" + session + "/tracks/new", json::write(request)));
  EXPECT_TRUE(reply.tracks.empty());
  ASSERT_TRUE(reply.description);
  EXPECT_EQ(count(reply.description->sdp, "a=group:BUNDLE 0\r\n"), 1u);
  EXPECT_EQ(count(reply.description->sdp, "a=sctp-port:5000\r\n"), 1u);
  EXPECT_EQ(count(reply.description->sdp, "a=candidate:"), 2u);
  EXPECT_EQ(count(reply.description->sdp, "rtcp-mux"), 0u);
}

TEST(SfuPush, MayBeginAfterASectionThatIsRejected) {
  World world;
  std::string session = world.new_session();
  std::string unknown =
      "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n"
      "m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendonly\r\n"
      "a=rtpmap:96 X-UNKNOWN/90000\r\na=rtcp-mux\r\n"
      "a=ice-ufrag:gone\r\na=ice-pwd:passwordpasswordpassword\r\n"
      "a=fingerprint:sha-256 AA:BB\r\na=setup:actpass\r\n";
  TracksRequest request;
  request.description = SessionDescription{SdpType::offer, unknown};
  request.auto_discover = true;
  TracksReply nothing = world.tracks_of(
      world.call("POST", "/sessions/" + session + "/tracks/new", json::write(request)));
  EXPECT_TRUE(nothing.tracks.empty());
  EXPECT_FALSE(world.remotes.count(session)) << "the rejected section's transport is none";

  // Its transport went with the section, so the client makes another for its media.
  std::string both = client_sdp({{"1", "video", "sendonly", 1000}});
  auto media = both.find("m=video");
  both.insert(media,
              "m=video 0 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\n"
              "a=mid:0\r\na=inactive\r\n");
  TracksReply reply = world.tracks_of(world.push(session, both, {{"1", "v"}}));
  ASSERT_EQ(reply.tracks.size(), 1u);
  EXPECT_FALSE(reply.tracks[0].error);
  EXPECT_EQ(world.remotes[session].ufrag, "clnt");
}

TEST(SfuPush, AnExtensionNumberMeansOneThing) {
  World world;
  std::string session = world.new_session();
  const std::string time =
      "a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time\r\n";
  const std::string level = "a=extmap:2 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n";
  TracksReply reply = world.tracks_of(world.push(
      session,
      client_sdp({{"0", "video", "sendonly", 0, time}, {"1", "audio", "sendonly", 0, level}}),
      {{"0", "v"}, {"1", "a"}}));
  EXPECT_EQ(count(reply.description->sdp, time), 1u);
  EXPECT_EQ(count(reply.description->sdp, "a=extmap:2 "), 1u) << reply.description->sdp;
  EXPECT_EQ(count(reply.description->sdp, "sdes:mid\r\n"), 2u);

  // Nor do we give it out twice.
  world.connect(session);
  std::string publisher = world.publisher(2000);
  TracksReply pulled = world.pull(session, {{publisher, "v"}});
  ASSERT_TRUE(pulled.description);
  auto sections = sections_of(pulled.description->sdp);
  ASSERT_EQ(sections.size(), 3u);
  EXPECT_EQ(count(sections[2], time), 1u) << sections[2];
}

TEST(SfuPush, FailedItemsHaveNoMid) {
  World world;
  std::string session = world.new_session();
  TracksReply reply = world.tracks_of(world.push(
      session,
      client_sdp(
          {{"0"}, {"1", "audio", "recvonly"}, {"2"}, {"3"}, {"4", "video", "sendonly", 0, ""}}),
      {{"0", "v"}, {"9", "nowhere"}, {"1", "silent"}, {"2", "v"}, {"3", "w"}}));
  ASSERT_EQ(reply.tracks.size(), 5u);
  const char* codes[] = {"", "invalid_params", "invalid_params", "repeated_local_track_error", ""};
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(reply.tracks[i].error.code, codes[i]) << i;
    if (*codes[i]) {
      EXPECT_EQ(reply.tracks[i].mid, "");
    }
  }
  ASSERT_TRUE(reply.description) << "the offer is answered all the same";
  EXPECT_EQ(count(reply.description->sdp, "a=inactive\r\n"), 1u) << "the section nobody sends on";
}

TEST(SfuPush, NeedsAMidAndAnOffer) {
  World world;
  std::string session = world.new_session();
  expect_error(world.push(session, client_sdp({{"0"}}), {{"", "v"}}), 406, "invalid_params",
               "tracks[0]: Missing mid in track");
  expect_error(world.call("POST", "/sessions/" + session + "/tracks/new",
                          R"({"tracks":[{"location":"local","trackName":"x","kind":"audio"}]})"),
               500, "internal_error", "Backend error");
  expect_error(world.call("POST", "/sessions/" + session + "/tracks/new",
                          R"({"tracks":[{"location":"local","trackName":"x","kind":"audio",)"
                          R"("bidirectionalMediaStream":true}]})"),
               501, "not_implemented");
}

TEST(SfuPush, SectionsWithoutAKnownCodecAreRejected) {
  World world;
  std::string session = world.new_session();
  std::string sdp = replaced(client_sdp({{"0"}, {"1", "audio"}}), "VP8/90000", "H263/90000");
  TracksReply reply = world.tracks_of(world.push(session, sdp, {{"0", "v"}, {"1", "a"}}));
  EXPECT_EQ(count(reply.description->sdp, "m=video 0 UDP/TLS/RTP/SAVPF 96 97\r\n"), 1u);
  EXPECT_TRUE(reply.tracks[0].error);
  EXPECT_FALSE(reply.tracks[1].error);
}

TEST(SfuPush, SectionsOutsideTheBundleHaveNoTransport) {
  World world;
  std::string session = world.new_session();
  std::string sdp = replaced(client_sdp({{"0"}, {"1", "audio"}}), "a=group:BUNDLE 0 1\r\n", "");
  TracksReply reply = world.tracks_of(world.push(session, sdp, {{"0", "v"}, {"1", "a"}}));
  EXPECT_FALSE(reply.tracks[0].error);
  EXPECT_TRUE(reply.tracks[1].error);
  EXPECT_EQ(count(reply.description->sdp, "a=group"), 0u) << "none was offered";
  EXPECT_EQ(count(reply.description->sdp, "m=audio 0 "), 1u);
}

TEST(SfuPush, AClientThatIsPassiveIsCalled) {
  World world;
  std::string session = world.new_session();
  TracksReply reply =
      world.tracks_of(world.push(session, client_sdp({{"0"}}, "clnt", "passive"), {{"0", "v"}}));
  EXPECT_EQ(count(reply.description->sdp, "a=setup:active\r\n"), 1u);
  EXPECT_TRUE(world.remotes[session].client_is_passive);
}

TEST(SfuPush, MoreTracksComeInLaterOffers) {
  World world;
  std::string session = world.publisher();
  TracksReply reply = world.tracks_of(world.push(
      session, client_sdp({{"0", "video", "sendonly", 1000}, {"1", "audio"}}), {{"1", "a"}}));
  auto sections = sections_of(reply.description->sdp);
  ASSERT_EQ(sections.size(), 2u);
  EXPECT_EQ(count(sections[0], "a=recvonly\r\n"), 1u);
  SessionState state = world.inspect(session);
  ASSERT_EQ(state.tracks.size(), 2u);
  EXPECT_EQ(state.tracks[0].track_name, "v");
  EXPECT_EQ(state.tracks[1].track_name, "a");
  EXPECT_EQ(state.tracks[1].kind, "audio");
  EXPECT_EQ(state.tracks[1].status, ResourceStatus::active);
  EXPECT_EQ(world.remotes.size(), 1u);
}

TEST(SfuPush, OffersThatDoNotContinueTheSessionAreRefused) {
  World world;
  std::string session = world.publisher();
  const std::string good = client_sdp({{"0", "video", "sendonly", 1000}, {"1"}});
  for (const auto& [what, sdp] : std::vector<std::pair<std::string, std::string>>{
           {"another order", client_sdp({{"1"}, {"0"}})},
           {"another kind", client_sdp({{"0", "audio"}, {"1"}})},
           {"an ICE restart", client_sdp({{"0"}, {"1"}}, "othr")},
           {"another certificate", replaced(good, "sha-256 AA:BB", "sha-256 AA:CC")},
       }) {
    SCOPED_TRACE(what);
    expect_error(world.push(session, sdp, {{"1", "w"}}), 406, "invalid_session_description");
  }
  EXPECT_FALSE(world.tracks_of(world.push(session, good, {{"1", "w"}})).tracks[0].error)
      << "nothing of what was refused stayed";
}

// Chromium takes the m-line of a stopped transceiver for the next one, with a new mid.
TEST(SfuPush, ARejectedSectionMayBeTakenForAnother) {
  World world;
  std::string session = world.publisher();
  world.push(session, client_sdp({{"0", "video", "sendonly", 1000}, {"1", "audio"}}), {{"1", "a"}});
  world.close(session, {"0"}, false,
              client_sdp({{"0", "video", "sendonly", 0, "", true}, {"1", "audio"}}));
  TracksReply reply = world.tracks_of(world.push(
      session, client_sdp({{"2", "video", "sendonly", 2000}, {"1", "audio"}}), {{"2", "again"}}));
  EXPECT_FALSE(reply.tracks[0].error) << reply.tracks[0].error.description;
  auto sections = sections_of(reply.description->sdp);
  ASSERT_EQ(sections.size(), 2u);
  EXPECT_EQ(count(sections[0], "a=mid:2\r\n"), 1u);
  EXPECT_EQ(count(sections[0], "a=recvonly\r\n"), 1u);
  world.media(session, 2000);
  EXPECT_FALSE(world.pull(world.new_session(), {{session, "again"}}).tracks[0].error);
}

TEST(SfuPush, SectionsAreBoundedInNumber) {
  SfuSettings settings;
  settings.max_sections = 4;
  World world(settings);
  std::string session = world.new_session();
  std::vector<Media> sections;
  for (int i = 0; i < 5; ++i) sections.push_back({std::to_string(i)});
  expect_error(world.push(session, client_sdp(sections), {{"0", "v"}}), 410, "session_error");
}

TEST(SfuPush, ASilentTrackIsCollected) {
  World world;
  std::string session = world.publisher();
  world.push(session,
             client_sdp({{"0", "video", "sendonly", 1000}, {"1", "audio", "sendonly", 1001}}),
             {{"1", "a"}});
  std::string player = world.new_session();
  for (int i = 0; i < 31; ++i) {
    world.wait(1000);
    world.media(session, 1001, 111);
  }
  SessionState state = world.inspect(session);
  ASSERT_EQ(state.tracks.size(), 2u);
  EXPECT_EQ(state.tracks[0].status, ResourceStatus::inactive);
  EXPECT_EQ(state.tracks[1].status, ResourceStatus::active);
  TracksReply reply = world.pull(player, {{session, "v"}, {session, "a"}});
  EXPECT_EQ(reply.tracks[0].error.code, "not_found_track_error");
  EXPECT_FALSE(reply.tracks[1].error);
}

TEST(SfuPush, APausedTrackIsCollectedAfterItsSilence) {
  World world;
  std::string session = world.publisher();
  auto seconds = [&](int number, uint32_t ssrc, int payload_type) {
    for (int i = 0; i < number; ++i) {
      world.wait(1000);
      world.media(session, ssrc, payload_type);
    }
  };
  seconds(60, 1000, 96);
  const Media sending{"0", "video", "sendonly", 1000}, paused{"0", "video", "inactive"},
      audio{"1", "audio", "sendonly", 1001};
  world.push(session, client_sdp({paused, audio}), {{"1", "a"}});
  seconds(1, 1001, 111);
  EXPECT_EQ(world.inspect(session).tracks[0].status, ResourceStatus::active);

  TracksReply resumed =
      world.tracks_of(world.push(session, client_sdp({sending, audio}), {{"1", "a"}}));
  EXPECT_EQ(count(sections_of(resumed.description->sdp)[0], "a=recvonly\r\n"), 1u);
  world.media(session, 1000);
  EXPECT_EQ(world.inspect(session).tracks[0].status, ResourceStatus::active);
  TracksReply pulled = world.pull(world.new_session(), {{session, "v"}});
  EXPECT_FALSE(pulled.tracks[0].error);

  world.push(session, client_sdp({paused, audio}), {{"1", "a"}});
  seconds(16, 1001, 111);
  world.push(session, client_sdp({paused, audio}), {{"1", "a"}});  // says nothing new
  seconds(15, 1001, 111);
  EXPECT_EQ(world.inspect(session).tracks[0].status, ResourceStatus::inactive);
  EXPECT_EQ(world.inspect(session).tracks[1].status, ResourceStatus::active);
}

// --- pulling ---------------------------------------------------------------------------------

TEST(SfuPull, IsOfferedAndGoesAfterTheAnswer) {
  World world;
  std::string publisher = world.publisher(), player = world.new_session();
  TracksReply reply = world.pull(player, {{publisher, "v"}});
  EXPECT_TRUE(reply.requires_immediate_renegotiation);
  ASSERT_TRUE(reply.description);
  EXPECT_EQ(reply.description->type, SdpType::offer);
  ASSERT_EQ(reply.tracks.size(), 1u);
  EXPECT_EQ(reply.tracks[0].mid, "0");
  EXPECT_EQ(reply.tracks[0].session_id, publisher);
  EXPECT_EQ(reply.tracks[0].track_name, "v");
  const std::string& sdp = reply.description->sdp;
  EXPECT_EQ(count(sdp, "a=setup:actpass\r\n"), 1u);
  EXPECT_EQ(count(sdp, "a=sendonly\r\n"), 1u);
  EXPECT_EQ(count(sdp, "a=mid:0\r\n"), 1u);
  EXPECT_EQ(count(sdp, "a=ssrc-group:FID "), 1u);
  EXPECT_EQ(count(sdp, " cname:"), 2u);
  EXPECT_GE(count(sdp, "rtx/90000\r\n"), 3u) << "several codecs, with RTX";
  EXPECT_EQ(count(sdp, "VP8/90000\r\n"), 1u);
  EXPECT_EQ(count(sdp, "H264/90000\r\n"), 1u);

  ApiReply done = world.renegotiate(player, answer_to(sdp));
  EXPECT_EQ(done.status, 200);
  EXPECT_EQ(done.body, "{}");
  EXPECT_EQ(world.remotes[player].ufrag, "clnt");
  world.connect(player);
  world.media(publisher, 1000);
  EXPECT_EQ(world.sent[player], 1u);
}

TEST(SfuPull, OfferNamesThePublishedCodecAsItIs) {
  World world;
  std::string publisher = world.new_session();
  std::string profile = "profile-level-id=640c1f;packetization-mode=1";
  std::string sdp = replaced(client_sdp({{"0", "video", "sendonly", 1000}}), "VP8/90000",
                             "H264/90000\r\na=fmtp:96 " + profile);
  world.push(publisher, sdp, {{"0", "v"}});
  world.connect(publisher);
  world.media(publisher, 1000);
  TracksReply reply = world.pull(world.new_session(), {{publisher, "v"}});
  EXPECT_EQ(count(reply.description->sdp, profile), 1u) << reply.description->sdp;
}

TEST(SfuPull, OfAnUnknownTrackFailsAtOnce) {
  World world;
  std::string publisher = world.publisher(), player = world.new_session();
  std::string unconnected = world.new_session();
  world.push(unconnected, client_sdp({{"0"}}), {{"0", "v"}});
  TracksReply reply = world.pull(
      player, {{"0123456789abcdef0123456789abcdef", "v"}, {publisher, "w"}, {unconnected, "v"}});
  EXPECT_FALSE(reply.requires_immediate_renegotiation);
  EXPECT_FALSE(reply.description);
  ASSERT_EQ(reply.tracks.size(), 3u);
  for (const TrackObject& track : reply.tracks) {
    EXPECT_EQ(track.error.code, "not_found_track_error");
    EXPECT_EQ(track.mid, "");
    EXPECT_FALSE(track.session_id.empty());
  }
}

TEST(SfuPull, OfASilentTrackWaitsForMedia) {
  World world;
  std::string publisher = world.publisher(1000, false), player = world.new_session();
  std::string path = "/sessions/" + player + "/tracks/new";
  RequestId first = world.begin("POST", path, world.pull_body({{publisher, "v"}}));
  EXPECT_FALSE(world.answered(first));
  world.wait(7900);
  EXPECT_FALSE(world.answered(first));
  world.wait(300);
  ASSERT_TRUE(world.answered(first));
  TracksReply empty = world.tracks_of(world.replies[first]);
  EXPECT_EQ(empty.tracks[0].error.code, "empty_track_error");
  EXPECT_FALSE(empty.description);

  RequestId second = world.begin("POST", path, world.pull_body({{publisher, "v"}}));
  world.wait(1000);
  EXPECT_FALSE(world.answered(second));
  world.media(publisher, 1000);
  ASSERT_TRUE(world.answered(second)) << "at once when media comes";
  EXPECT_TRUE(world.tracks_of(world.replies[second]).requires_immediate_renegotiation);
}

TEST(SfuPull, OfSeveralOffersTheGoodOnes) {
  World world;
  std::string publisher = world.publisher(), player = world.new_session();
  TracksReply reply = world.pull(player, {{publisher, "nothing"}, {publisher, "v"}});
  EXPECT_TRUE(reply.requires_immediate_renegotiation);
  EXPECT_EQ(reply.tracks[0].error.code, "not_found_track_error");
  EXPECT_FALSE(reply.tracks[1].error);
  EXPECT_EQ(sections_of(reply.description->sdp).size(), 1u);
}

TEST(SfuPull, RepeatedTakesASecondSection) {
  World world;
  std::string publisher = world.publisher(), player = world.new_session();
  TracksReply first = world.pull(player, {{publisher, "v"}});
  world.renegotiate(player, answer_to(first.description->sdp));
  world.connect(player);
  TracksReply second = world.pull(player, {{publisher, "v"}});
  EXPECT_EQ(second.tracks[0].mid, "1");
  auto before = sections_of(first.description->sdp), after = sections_of(second.description->sdp);
  ASSERT_EQ(after.size(), 2u);
  EXPECT_EQ(after[0], before[0]) << "old sections are repeated";
  EXPECT_NE(after[1], before[0]);
}

TEST(SfuPull, OfOnesOwnTrackIsAnEcho) {
  World world;
  std::string session = world.publisher();
  TracksReply reply = world.pull(session, {{session, "v"}});
  ASSERT_TRUE(reply.description);
  EXPECT_EQ(reply.tracks[0].mid, "1");
  auto sections = sections_of(reply.description->sdp);
  ASSERT_EQ(sections.size(), 2u);
  EXPECT_EQ(count(sections[0], "a=recvonly\r\n"), 1u);
  EXPECT_EQ(count(sections[1], "a=sendonly\r\n"), 1u);
  world.renegotiate(session, answer_to(reply.description->sdp));
  world.media(session, 1000);
  EXPECT_EQ(world.sent[session], 1u);
}

// RFC 8843, section 9: in a bundle a number means one codec.
TEST(SfuPull, InASessionThatPushesKeepsToTheNumbersInUse) {
  World world;
  std::string other = world.publisher(), session = world.new_session();
  world.push(session, fixture("firefox-publish.sdp"), {{"1", "v"}});
  world.connect(session);
  TracksReply reply = world.pull(session, {{other, "v"}});
  ASSERT_TRUE(reply.description);
  std::map<std::string, std::string> meaning;
  std::istringstream lines(reply.description->sdp);
  for (std::string line; std::getline(lines, line);) {
    for (const char* start : {"a=rtpmap:", "a=fmtp:"}) {
      if (line.rfind(start, 0) != 0) continue;
      auto space = line.find(' ');
      auto [known, fresh] = meaning.emplace(line.substr(0, space), line.substr(space));
      EXPECT_TRUE(fresh || known->second == line.substr(space)) << line;
    }
  }
  auto sections = sections_of(reply.description->sdp);
  ASSERT_EQ(sections.size(), 3u);
  EXPECT_EQ(reply.tracks[0].mid, "2");
  EXPECT_EQ(count(sections[2], "a=rtpmap:120 VP8/90000\r\n"), 0u)
      << "Firefox's 120 has parameters that this publisher does not have";
  EXPECT_EQ(count(sections[2], "a=extmap:3 urn:ietf:params:rtp-hdrext:sdes:mid\r\n"), 1u);
}

TEST(SfuPull, LeavesOutWhatNoExtensionNumberIsLeftFor) {
  World world;
  std::string publisher = world.publisher(), session = world.new_session(), all;
  for (int id = 1; id <= 14; ++id)
    if (id != 4) all += "a=extmap:" + std::to_string(id) + " urn:x-" + std::to_string(id) + "\r\n";
  world.push(session, client_sdp({{"0", "video", "sendonly", 2000, all}}), {{"0", "own"}});
  world.connect(session);
  TracksReply pulled = world.pull(session, {{publisher, "v"}});
  ASSERT_TRUE(pulled.description);
  const std::string section = sections_of(pulled.description->sdp).at(1);
  EXPECT_EQ(count(section, "a=extmap:"), 1u) << section;
  EXPECT_EQ(count(section, "a=extmap:4 "), 1u);
}

TEST(SfuPull, MidsOfTheClientAreNeverTaken) {
  World world;
  std::string other = world.publisher(), session = world.new_session();
  world.push(session, client_sdp({{"5"}, {"x"}}), {{"5", "v"}});
  world.connect(session);
  EXPECT_EQ(world.pull(session, {{other, "v"}}).tracks[0].mid, "6");
}

TEST(SfuPull, WithAnOfferIsAnswered) {
  World world;
  std::string publisher = world.publisher(), player = world.new_session();
  TracksReply reply = world.pull(player, {{publisher, "v"}}, fixture("chromium-whep.sdp"));
  EXPECT_FALSE(reply.requires_immediate_renegotiation);
  ASSERT_TRUE(reply.description);
  EXPECT_EQ(reply.description->type, SdpType::answer);
  EXPECT_EQ(reply.tracks[0].mid, "1") << "the section of its kind";
  auto sections = sections_of(reply.description->sdp);
  ASSERT_EQ(sections.size(), 2u);
  EXPECT_EQ(count(sections[0], "a=inactive\r\n"), 1u);
  EXPECT_EQ(count(sections[1], "a=sendonly\r\n"), 1u);
  EXPECT_EQ(count(sections[1], "a=ssrc-group:FID"), 1u);
  EXPECT_EQ(count(reply.description->sdp, "a=setup:passive\r\n"), 2u);
  world.connect(player);
  world.media(publisher, 1000);
  EXPECT_EQ(world.sent[player], 1u);
}

TEST(SfuPull, WithAnOfferThatCannotBeServedLeavesItOpen) {
  World world;
  std::string publisher = world.publisher(), player = world.new_session();
  TracksReply reply = world.pull(player, {{publisher, "nothing"}}, fixture("chromium-whep.sdp"));
  EXPECT_FALSE(reply.description);
  EXPECT_EQ(reply.tracks[0].error.code, "not_found_track_error");
  EXPECT_FALSE(
      world.pull(player, {{publisher, "v"}}, fixture("chromium-whep.sdp")).tracks[0].error);
}

TEST(SfuPull, WithAnOfferOfTooFewSectionsFailsForTheRest) {
  World world;
  std::string publisher = world.publisher(), player = world.new_session();
  TracksReply reply =
      world.pull(player, {{publisher, "v"}, {publisher, "v"}}, fixture("chromium-whep.sdp"));
  EXPECT_FALSE(reply.tracks[0].error);
  EXPECT_TRUE(reply.tracks[1].error);
}

TEST(SfuPull, ThatTheClientRejectsIsNotForwarded) {
  World world;
  std::string publisher = world.publisher(), player = world.new_session();
  TracksReply reply = world.pull(player, {{publisher, "v"}});
  std::string answer = replaced(answer_to(reply.description->sdp), "a=recvonly", "a=inactive");
  EXPECT_EQ(world.renegotiate(player, answer).status, 200);
  world.connect(player);
  world.media(publisher, 1000);
  EXPECT_EQ(world.sent[player], 0u);
  // It changes its mind.
  std::string offer =
      replaced(replaced(answer, "a=inactive", "a=recvonly"), "a=setup:active", "a=setup:actpass");
  offer = replaced(offer, "a=group:BUNDLE 0", "a=group:BUNDLE 0 1") +
          "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:1\r\na=sendonly\r\na=rtcp-mux\r\n";
  TracksReply push = world.tracks_of(world.push(player, offer, {{"1", "talk"}}));
  EXPECT_EQ(count(sections_of(push.description->sdp)[0], "a=sendonly\r\n"), 1u);
  world.media(publisher, 1000);
  EXPECT_EQ(world.sent[player], 1u);
}

TEST(SfuPull, OfAFreshSessionMayBeRejectedAsAWhole) {
  World world;
  std::string publisher = world.publisher(), player = world.new_session();
  world.pull(player, {{publisher, "v"}});
  EXPECT_EQ(world
                .renegotiate(player,
                             "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
                             "m=video 0 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\n"
                             "a=inactive\r\n")
                .status,
            200);
  EXPECT_FALSE(world.remotes.count(player)) << "there is no transport yet";
  TracksReply again = world.pull(player, {{publisher, "v"}});
  ASSERT_TRUE(again.description);
  EXPECT_EQ(world.renegotiate(player, answer_to(again.description->sdp)).status, 200);
  EXPECT_EQ(world.remotes[player].ufrag, "clnt");
}

TEST(SfuPull, OfAnEndedTrackIsInactive) {
  World world;
  std::string publisher = world.publisher(), player = world.new_session();
  TracksReply reply = world.pull(player, {{publisher, "v"}});
  world.renegotiate(player, answer_to(reply.description->sdp));
  world.connect(player);
  EXPECT_EQ(world.inspect(player).tracks[0].status, ResourceStatus::active);
  EXPECT_EQ(world.inspect(player).tracks[0].session_id, publisher);
  world.close(publisher, {"0"}, true);
  EXPECT_EQ(world.inspect(player).tracks[0].status, ResourceStatus::inactive);
}

// --- one exchange at a time ------------------------------------------------------------------

TEST(SfuExchange, NothingGoesBeforeTheOfferIsAnswered) {
  World world;
  std::string publisher = world.publisher(), session = world.publisher(2000);
  TracksReply reply = world.pull(session, {{publisher, "v"}});
  std::string path = "/sessions/" + session;
  expect_error(world.call("POST", path + "/tracks/new", world.pull_body({{publisher, "v"}})), 406,
               "invalid_session_description");
  expect_error(world.push(session, client_sdp({{"0"}, {"1"}}), {{"0", "v"}}), 406,
               "invalid_session_description");
  expect_error(world.call("PUT", path + "/tracks/update",
                          R"({"tracks":[{"mid":"1","sessionId":"x","trackName":"y"}]})"),
               406, "invalid_session_description");
  expect_error(world.close(session, {"0"}, false, client_sdp({{"0"}, {"1"}})), 406,
               "invalid_session_description");
  EXPECT_EQ(world.call("GET", path).status, 200);
  EXPECT_EQ(world.renegotiate(session, answer_to(reply.description->sdp)).status, 200);
  EXPECT_EQ(world.inspect(session).tracks.size(), 2u);
}

TEST(SfuExchange, WhatClosesByForceIsAlwaysHeard) {
  World world;
  std::string publisher = world.publisher(), session = world.publisher(2000);
  world.pull(session, {{publisher, "v"}});
  TracksReply reply = world.tracks_of(world.close(session, {"0", "1"}, true));
  EXPECT_FALSE(reply.tracks[0].error);
  EXPECT_FALSE(reply.tracks[1].error);

  std::string silent = world.publisher(3000, false), player = world.publisher(4000);
  RequestId waiting =
      world.begin("POST", "/sessions/" + player + "/tracks/new", world.pull_body({{silent, "v"}}));
  ASSERT_FALSE(world.answered(waiting));
  EXPECT_FALSE(world.tracks_of(world.close(player, {"0"}, true)).tracks[0].error);
}

TEST(SfuExchange, ASecondCallDoesNotWaitBehindTheFirst) {
  World world;
  std::string publisher = world.publisher(1000, false), player = world.new_session();
  std::string path = "/sessions/" + player + "/tracks/new";
  RequestId waiting = world.begin("POST", path, world.pull_body({{publisher, "v"}}));
  ASSERT_FALSE(world.answered(waiting));
  expect_error(world.call("POST", path, world.pull_body({{publisher, "v"}})), 406,
               "invalid_session_description");
  world.state->on_cancelled(waiting);
  world.media(publisher, 1000);
  EXPECT_FALSE(world.answered(waiting));
  EXPECT_TRUE(world.pull(player, {{publisher, "v"}}).requires_immediate_renegotiation);
}

TEST(SfuExchange, TheSecondWaitsForTheConnection) {
  World world;
  std::string session = world.new_session();
  world.push(session, client_sdp({{"0"}}), {{"0", "v"}});
  TracksRequest request;
  request.description = SessionDescription{SdpType::offer, client_sdp({{"0"}, {"1"}})};
  request.auto_discover = true;
  std::string path = "/sessions/" + session + "/tracks/new";
  RequestId late = world.begin("POST", path, json::write(request));
  world.wait(4900);
  EXPECT_FALSE(world.answered(late));
  world.wait(200);
  ASSERT_TRUE(world.answered(late));
  expect_error(world.replies[late], 425, "session_error", "not ready yet");

  expect_error(world.call("POST", path, "{"), 400, "decoding_error");

  RequestId good = world.begin("POST", path, json::write(request));
  world.wait(1000);
  EXPECT_FALSE(world.answered(good));
  world.connect(session);
  ASSERT_TRUE(world.answered(good));
  EXPECT_EQ(world.tracks_of(world.replies[good]).tracks.size(), 1u);
}

TEST(SfuExchange, WaitingCallsEndWithTheSession) {
  World world;
  std::string publisher = world.publisher(1000, false), player = world.publisher(2000);
  RequestId waiting = world.begin("POST", "/sessions/" + player + "/tracks/new",
                                  world.pull_body({{publisher, "v"}}));
  ASSERT_FALSE(world.answered(waiting));
  world.state->on_closed(player, world.now);
  ASSERT_TRUE(world.answered(waiting));
  expect_error(world.replies[waiting], 410, "session_error");
}

TEST(SfuExchange, AnswersThatFitNoOfferAreRefused) {
  World world;
  std::string publisher = world.publisher(), player = world.new_session();
  expect_error(world.renegotiate(player, client_sdp({{"0"}})), 406, "invalid_session_description",
               "no offer");
  TracksReply reply = world.pull(player, {{publisher, "v"}});
  std::string answer = answer_to(reply.description->sdp);
  expect_error(world.renegotiate(player, answer, SdpType::offer), 406,
               "invalid_session_description");
  expect_error(world.renegotiate(player, client_sdp({{"0"}, {"1"}})), 406,
               "invalid_session_description");
  expect_error(world.renegotiate(player, client_sdp({{"7"}})), 406, "invalid_session_description");
  expect_error(world.renegotiate(player, replaced(answer, "a=ice-ufrag", "a=x")), 400,
               "invalid_session_description");
  EXPECT_EQ(world.renegotiate(player, answer).status, 200) << "the offer still stands";
  expect_error(world.renegotiate(player, answer), 406, "invalid_session_description");
}

// --- update ----------------------------------------------------------------------------------

struct Playing : World {
  explicit Playing(const std::string& more = "", char rid = 0) {
    this->rid = rid;
    publisher_ = publisher(1000, true, more);
    player = new_session();
    TracksReply reply = pull(player, {{publisher_, "v"}});
    renegotiate(player, answer_to(reply.description->sdp));
    connect(player);
  }
  ApiReply update(const std::string& item) {
    return call("PUT", "/sessions/" + player + "/tracks/update", R"({"tracks":[)" + item + "]}");
  }
  std::string publisher_, player;
};

TEST(SfuUpdate, SwapsTheSourceWithoutAnExchange) {
  Playing world;
  std::string other = world.publisher(2000);
  TracksReply reply = world.tracks_of(world.update(
      R"({"location":"remote","mid":"0","sessionId":")" + other + R"(","trackName":"v"})"));
  EXPECT_FALSE(reply.requires_immediate_renegotiation);
  EXPECT_FALSE(reply.description);
  EXPECT_EQ(reply.tracks[0].mid, "0");
  EXPECT_EQ(reply.tracks[0].session_id, other);
  world.media(world.publisher_, 1000);
  EXPECT_EQ(world.sent[world.player], 0u);
  world.media(other, 2000);
  EXPECT_EQ(world.sent[world.player], 1u);
  EXPECT_EQ(world.inspect(world.player).tracks[0].session_id, other);
}

TEST(SfuUpdate, WaitsForTheMediaOfTheNewSource) {
  Playing world;
  std::string other = world.publisher(2000, false);
  RequestId id =
      world.begin("PUT", "/sessions/" + world.player + "/tracks/update",
                  R"({"tracks":[{"mid":"0","sessionId":")" + other + R"(","trackName":"v"}]})");
  EXPECT_FALSE(world.answered(id));
  for (int i = 0; i < 9; ++i) {
    world.wait(1000);
    world.media(world.publisher_, 1000);
  }
  ASSERT_TRUE(world.answered(id));
  EXPECT_EQ(world.tracks_of(world.replies[id]).tracks[0].error.code, "empty_track_error");
  EXPECT_GT(world.sent[world.player], 0u) << "the old source goes on";
}

TEST(SfuUpdate, OfLayersNeedsSimulcast) {
  std::string item = R"({"mid":"0","simulcast":{"preferredRid":"h"}})";
  Playing plain;
  TracksReply refused = plain.tracks_of(plain.update(item));
  EXPECT_EQ(refused.tracks[0].error.code, "update_track_error");
  EXPECT_EQ(refused.tracks[0].error.description,
            "The track is not configured for simulcast, no updates applicable.");

  Playing layers(
      "a=rid:f send\r\na=rid:h send\r\na=simulcast:send f;h\r\n"
      "a=extmap:5 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n",
      'f');
  TracksReply done = layers.tracks_of(layers.update(item));
  EXPECT_FALSE(done.tracks[0].error) << done.tracks[0].error.description;
  ASSERT_TRUE(done.tracks[0].simulcast);
  EXPECT_EQ(done.tracks[0].simulcast->preferred_rid, "h");
}

TEST(SfuUpdate, SaysWhatItCannotDo) {
  Playing world;
  std::string audio = world.new_session();
  world.push(audio, client_sdp({{"0", "audio", "sendonly", 5000}}), {{"0", "a"}});
  world.connect(audio);
  world.media(audio, 5000, 111);
  auto code = [&](const std::string& item) {
    return world.tracks_of(world.update(item)).tracks[0].error.code;
  };
  auto source = [](const std::string& session, const std::string& name) {
    return R"("sessionId":")" + session + R"(","trackName":")" + name + "\"}";
  };
  EXPECT_EQ(code(R"({"mid":"7",)" + source(world.publisher_, "v")), "update_track_error");
  EXPECT_EQ(code(R"({"mid":"0",)" + source(world.publisher_, "w")), "not_found_track_error");
  EXPECT_EQ(code(R"({"mid":"0",)" + source(audio, "a")), "update_track_error");
  expect_error(world.update(R"({"mid":"",)" + source(audio, "a")), 406, "invalid_params",
               "tracks[0]: Missing mid in track");
  expect_error(
      world.call("PUT", "/sessions/" + world.player + "/tracks/update", R"({"tracks":[]})"), 406,
      "invalid_params", "Expecting at least 1 track");
}

// --- close -----------------------------------------------------------------------------------

TEST(SfuClose, ChecksItsList) {
  World world;
  std::string session = world.publisher();
  expect_error(world.close(session, {}, true), 406, "invalid_params", "Expecting at least 1 track");
  expect_error(world.close(session, {""}, true), 406, "invalid_params",
               "tracks[0]: Missing mid in track");
  expect_error(world.close(session, std::vector<std::string>(65, "0"), true), 406,
               "invalid_params");
  expect_error(world.close(session, {"0"}, false), 406, "invalid_session_description");
  EXPECT_EQ(world.inspect(session).tracks[0].status, ResourceStatus::active);
}

TEST(SfuClose, ByForceEndsTheMediaAndKeepsTheSection) {
  Playing world;
  TracksReply reply = world.tracks_of(world.close(world.publisher_, {"0", "5"}, true));
  EXPECT_FALSE(reply.requires_immediate_renegotiation);
  EXPECT_FALSE(reply.description);
  EXPECT_EQ(reply.tracks[0].mid, "0");
  EXPECT_FALSE(reply.tracks[0].error);
  EXPECT_EQ(reply.tracks[1].mid, "5");
  EXPECT_EQ(reply.tracks[1].error.code, "close_track_error");
  EXPECT_EQ(reply.tracks[1].error.description, "Track doesn't exist or was already closed");
  world.media(world.publisher_, 1000);
  EXPECT_EQ(world.sent[world.player], 0u);
  EXPECT_EQ(world.inspect(world.publisher_).tracks[0].status, ResourceStatus::inactive);
  EXPECT_EQ(world.tracks_of(world.close(world.publisher_, {"0"}, true)).tracks[0].error.code,
            "close_track_error");
  EXPECT_EQ(world.pull(world.new_session(), {{world.publisher_, "v"}}).tracks[0].error.code,
            "not_found_track_error");
}

// Seen of the service: 60 of 60.
TEST(SfuClose, ByForceSpoilsTheSectionForEver) {
  World world;
  std::string session = world.publisher();
  world.close(session, {"0"}, true);
  TracksReply again = world.tracks_of(
      world.push(session, client_sdp({{"0", "video", "sendonly", 1000}}), {{"0", "again"}}));
  EXPECT_FALSE(again.tracks[0].error) << "it is accepted";
  std::string player = world.new_session();
  // Also not by a later exchange.
  world.push(session, client_sdp({{"0", "video", "sendonly", 1000}, {"1", "audio"}}), {{"1", "a"}});
  RequestId id = world.begin("POST", "/sessions/" + player + "/tracks/new",
                             world.pull_body({{session, "again"}}));
  for (int i = 0; i < 9; ++i) {
    world.media(session, 1000);
    world.wait(1000);
  }
  ASSERT_TRUE(world.answered(id));
  EXPECT_EQ(world.tracks_of(world.replies[id]).tracks[0].error.code, "empty_track_error");
}

TEST(SfuClose, ByNegotiationIsAnswered) {
  World world;
  std::string session = world.publisher();
  world.push(session, client_sdp({{"0", "video", "sendonly", 1000}, {"1"}, {"2"}}),
             {{"1", "w"}, {"2", "x"}});
  // One transceiver is stopped, another merely inactive.
  TracksReply reply =
      world.tracks_of(world.close(session, {"1", "2", "9"}, false,
                                  client_sdp({{"0", "video", "sendonly", 1000},
                                              {"1", "video", "sendonly", 0, "", true},
                                              {"2", "video", "inactive"}})));
  EXPECT_EQ(reply.tracks[2].error.code, "close_track_error");
  ASSERT_TRUE(reply.description) << "although an item failed";
  EXPECT_EQ(reply.description->type, SdpType::answer);
  auto sections = sections_of(reply.description->sdp);
  ASSERT_EQ(sections.size(), 3u);
  EXPECT_EQ(count(sections[0], "a=recvonly\r\n"), 1u);
  EXPECT_EQ(sections[1].rfind("m=video 0 ", 0), 0u);
  EXPECT_EQ(count(sections[2], "a=inactive\r\n"), 1u);
  EXPECT_EQ(count(reply.description->sdp, "a=group:BUNDLE 0 2\r\n"), 1u);
  EXPECT_EQ(world.call("GET", "/sessions/" + session).status, 200);
  // Later exchanges repeat all of it.
  TracksReply more = world.tracks_of(world.push(session,
                                                client_sdp({{"0", "video", "sendonly", 1000},
                                                            {"1", "video", "sendonly", 0, "", true},
                                                            {"2", "video", "inactive"},
                                                            {"3"}}),
                                                {{"3", "y"}}));
  EXPECT_EQ(sections_of(more.description->sdp).size(), 4u);
}

TEST(SfuClose, OfTheFirstSectionMayBringAnotherConnection) {
  World world;
  std::string session = world.new_session();
  world.push(session, client_sdp({{"0"}, {"1"}, {"2"}}), {{"0", "a"}, {"1", "b"}, {"2", "c"}});
  world.connect(session);
  auto stopped = [](const char* mid) {
    Media media{mid};
    media.stopped = true;
    return media;
  };
  world.tracks_of(world.close(session, {"1"}, false, client_sdp({{"0"}, stopped("1"), {"2"}})));
  EXPECT_TRUE(world.replaced.empty()) << "the others share the first one's";
  world.tracks_of(
      world.close(session, {"0"}, false, client_sdp({stopped("0"), stopped("1"), {"2"}})));
  EXPECT_EQ(world.replaced, std::vector{session});
  EXPECT_TRUE(world.closed.empty());
}

TEST(SfuClose, OfAPullEndsTheForwarding) {
  Playing world;
  world.media(world.publisher_, 1000);
  EXPECT_EQ(world.sent[world.player], 1u);
  EXPECT_FALSE(world.tracks_of(world.close(world.player, {"0"}, true)).tracks[0].error);
  world.media(world.publisher_, 1000);
  EXPECT_EQ(world.sent[world.player], 1u);
  // The section stays, and the next pull gets another.
  TracksReply next = world.pull(world.player, {{world.publisher_, "v"}});
  EXPECT_EQ(next.tracks[0].mid, "1");
  auto sections = sections_of(next.description->sdp);
  ASSERT_EQ(sections.size(), 2u);
  EXPECT_EQ(count(sections[0], "a=inactive\r\n"), 1u);
}

// Seen of the service: the last section takes the connection with it.
TEST(SfuClose, OfTheLastSectionByNegotiationEndsTheSession) {
  World world;
  std::string session = world.publisher();
  TracksReply reply = world.tracks_of(world.close(
      session, {"0"}, false,
      "v=0\r\no=- 1 3 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
      "m=video 0 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=inactive\r\na=mid:0\r\n"));
  EXPECT_TRUE(reply.description);
  expect_error(world.call("GET", "/sessions/" + session), 410, "session_error");

  std::string other = world.publisher(2000);
  world.close(other, {"0"}, true);
  EXPECT_EQ(world.call("GET", "/sessions/" + other).status, 200) << "by force it stays";
}

TEST(SfuClose, OfTheOnlyVideoBesideASectionThatIsNotRejectedKeepsTheSession) {
  const std::string data =
      "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\n"
      "a=ice-ufrag:clnt\r\na=ice-pwd:passwordpasswordpassword\r\n"
      "a=fingerprint:sha-256 AA:BB\r\na=setup:actpass\r\na=sctp-port:5000\r\n";
  const Media video{"0", "video", "sendonly", 1000}, stopped{"0", "video", "", 0, "", true},
      audio{"1", "audio", "sendonly", 1001}, paused{"1", "audio", "inactive"};
  auto with_data = [&](const Media& first) {
    std::string sdp = client_sdp({first});
    auto group = sdp.find("a=group:BUNDLE") + 14;
    return sdp.insert(sdp.find("\r\n", group), " 1") + data;
  };
  for (bool of_data : {true, false}) {
    World world;
    std::string session = world.new_session();
    auto sdp = [&](const Media& first, const Media& second) {
      return of_data ? with_data(first) : client_sdp({first, second});
    };
    world.push(session, sdp(video, audio), {{"0", "v"}});
    world.connect(session);
    if (!of_data) world.push(session, sdp(video, audio), {{"1", "a"}});
    TracksReply reply = world.tracks_of(world.close(session, {"0"}, false, sdp(stopped, paused)));
    EXPECT_FALSE(reply.tracks[0].error);
    EXPECT_EQ(world.call("GET", "/sessions/" + session).status, 200);
    EXPECT_TRUE(world.closed.empty());
  }
}

}  // namespace
}  // namespace cfr::sfu
