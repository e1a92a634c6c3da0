// The wire types as JSON: fixtures go through reader and writer, malformed texts name the member.
#include <gtest/gtest.h>

#include "unit/helpers.h"
#include "wire/codes.h"
#include "wire/json.h"
#include "wire/json_syntax.h"

namespace cfr {
namespace {

using test::fixture;

// The message of the protocol error that `result` must be.
template <class T>
std::string problem(const Result<T>& result) {
  if (result) return "(no error)";
  EXPECT_EQ(result.error().kind, ErrorKind::protocol);
  return result.error().message;
}

template <class T>
T value(Result<T> result) {
  EXPECT_TRUE(result) << result.error().message;
  return result ? std::move(*result) : T{};
}

TEST(Wire, NewSession) {
  auto reply = value(json::read_new_session_reply(fixture("new-session-reply.json")));
  EXPECT_EQ(reply.session_id, "0123456789abcdef0123456789abcdef");
  EXPECT_FALSE(reply.description);
  EXPECT_FALSE(reply.error);
  EXPECT_EQ(value(json::read_new_session_reply(json::write(reply))).session_id, reply.session_id);

  // The service refuses "{}", so a request without a description has no body at all.
  EXPECT_EQ(json::write(NewSessionRequest{}), "");
  EXPECT_FALSE(value(json::read_new_session_request("")).description);
  EXPECT_EQ(problem(json::read_new_session_request("{}")), "sessionDescription must be an object");
  NewSessionRequest request{SessionDescription{SdpType::offer, "v=0\r\n"}};
  EXPECT_EQ(value(json::read_new_session_request(json::write(request))).description,
            request.description);
}

TEST(Wire, PushRequest) {
  auto request = value(json::read_tracks_request(fixture("tracks-request-push.json")));
  ASSERT_TRUE(request.description);
  EXPECT_EQ(request.description->type, SdpType::offer);
  EXPECT_EQ(request.description->sdp, "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n");
  ASSERT_EQ(request.tracks.size(), 2u);
  EXPECT_EQ(request.tracks[1].location, Location::local);
  EXPECT_EQ(request.tracks[1].mid, "1");
  EXPECT_EQ(request.tracks[1].track_name, "audio_0");
  auto again = value(json::read_tracks_request(json::write(request)));
  EXPECT_EQ(again.tracks, request.tracks);
  EXPECT_EQ(again.description, request.description);
  EXPECT_FALSE(again.auto_discover);

  TracksRequest discover;
  discover.auto_discover = true;
  EXPECT_EQ(json::write(discover), "{\"autoDiscover\":true}");
  EXPECT_TRUE(value(json::read_tracks_request("{\"autoDiscover\":true}")).auto_discover);
}

TEST(Wire, PullRequest) {
  auto request = value(json::read_tracks_request(fixture("tracks-request-pull.json")));
  EXPECT_FALSE(request.description);
  ASSERT_EQ(request.tracks.size(), 2u);
  EXPECT_EQ(request.tracks[0].location, Location::remote);
  ASSERT_TRUE(request.tracks[0].simulcast);
  EXPECT_EQ(request.tracks[0].simulcast->preferred_rid, "b");
  EXPECT_EQ(request.tracks[0].simulcast->priority_ordering, "asciibetical");
  EXPECT_EQ(request.tracks[1].track_name, "Ton – Küche");
  EXPECT_EQ(value(json::read_tracks_request(json::write(request))).tracks, request.tracks);
  EXPECT_EQ(json::write(request).find("\"mid\""), std::string::npos)
      << "an empty mid must not be sent";
}

TEST(Wire, PushReply) {
  auto reply = value(json::read_tracks_reply(fixture("tracks-reply-push.json")));
  EXPECT_FALSE(reply.requires_immediate_renegotiation);
  ASSERT_TRUE(reply.description);
  EXPECT_EQ(reply.description->type, SdpType::answer);
  ASSERT_EQ(reply.tracks.size(), 2u);
  EXPECT_EQ(reply.tracks[0].mid, "0");
  EXPECT_EQ(value(json::read_tracks_reply(json::write(reply))).tracks, reply.tracks);
}

TEST(Wire, PullReplyWithAFailedItem) {
  auto reply = value(json::read_tracks_reply(fixture("tracks-reply-pull.json")));
  EXPECT_TRUE(reply.requires_immediate_renegotiation);
  ASSERT_EQ(reply.tracks.size(), 2u);
  EXPECT_EQ(reply.tracks[0].mid, "3");
  EXPECT_FALSE(reply.tracks[0].error);
  EXPECT_EQ(reply.tracks[1].mid, "");
  EXPECT_EQ(reply.tracks[1].error.code, "not_found_track_error");
  EXPECT_EQ(reply.tracks[1].error.description.substr(0, 15), "Track not found");
  std::string text = json::write(reply);
  EXPECT_NE(text.find("\"mid\":\"\""), std::string::npos) << "failed items keep their empty mid";
  EXPECT_EQ(value(json::read_tracks_reply(text)).tracks, reply.tracks);

  auto failed = value(json::read_tracks_reply(fixture("tracks-reply-failed.json")));
  EXPECT_FALSE(failed.description);
  EXPECT_FALSE(failed.requires_immediate_renegotiation);
  EXPECT_EQ(failed.tracks[0].error.code, "empty_track_error");
}

TEST(Wire, Renegotiate) {
  auto request = value(json::read_renegotiate_request(fixture("renegotiate-request.json")));
  EXPECT_EQ(request.description, (SessionDescription{SdpType::answer, "v=0\r\n"}));
  EXPECT_EQ(value(json::read_renegotiate_request(json::write(request))).description,
            request.description);
  EXPECT_FALSE(value(json::read_renegotiate_reply("{}")).error);
  EXPECT_FALSE(value(json::read_renegotiate_reply("")).error);
  EXPECT_EQ(json::write(RenegotiateReply{}), "{}");
}

TEST(Wire, Close) {
  auto request = value(json::read_close_request(fixture("close-request.json")));
  EXPECT_EQ(request.mids, (std::vector<std::string>{"0", "12"}));
  EXPECT_TRUE(request.force);
  EXPECT_FALSE(request.description);
  EXPECT_EQ(json::write(request), "{\"tracks\":[{\"mid\":\"0\"},{\"mid\":\"12\"}],\"force\":true}");
  // The service has an error of its own for a close without mid.
  EXPECT_EQ(value(json::read_close_request("{\"tracks\":[{}]}")).mids,
            std::vector<std::string>{""});
}

TEST(Wire, SessionStateIgnoresDataChannels) {
  auto state = value(json::read_session_state(fixture("session-state.json")));
  ASSERT_EQ(state.tracks.size(), 3u);
  EXPECT_EQ(state.tracks[0].status, ResourceStatus::active);
  EXPECT_EQ(state.tracks[1].status, ResourceStatus::inactive);
  EXPECT_EQ(state.tracks[2].session_id, "fedcba9876543210fedcba9876543210");
  EXPECT_EQ(value(json::read_session_state(json::write(state))).tracks, state.tracks);
  EXPECT_TRUE(value(json::read_session_state("{}")).tracks.empty());
  // An older and a future word.
  auto words = value(json::read_session_state(
      "{\"tracks\":[{\"status\":\"waiting\"},{\"status\":\"sleeping\"}]}"));
  EXPECT_EQ(words.tracks[0].status, ResourceStatus::initializing);
  EXPECT_FALSE(words.tracks[1].status);
}

TEST(Wire, IceServers) {
  auto servers = value(json::read_ice_servers(fixture("ice-servers-reply.json")));
  ASSERT_EQ(servers.size(), 2u);
  EXPECT_EQ(servers[0].urls.size(), 2u);
  EXPECT_EQ(servers[0].username, "");
  EXPECT_EQ(servers[1].urls,
            std::vector<std::string>{"turn:turn.cloudflare.com:3478?transport=udp"});
  EXPECT_EQ(servers[1].credential, "ebd71f1d3edbc2b0edae3cd5a6d82284");
  auto again = value(json::read_ice_servers(json::write(servers)));
  EXPECT_EQ(again[1].urls, servers[1].urls);
  EXPECT_EQ(again[1].username, servers[1].username);
  // The older endpoint gives one server in place of a list.
  EXPECT_EQ(value(json::read_ice_servers("{\"iceServers\":{\"urls\":[\"stun:a\"]}}")).size(), 1u);

  IceServersRequest request{86400, "cam \"1\""};
  auto read = value(json::read_ice_servers_request(json::write(request)));
  EXPECT_EQ(read.ttl_s, 86400u);
  EXPECT_EQ(read.custom_identifier, "cam \"1\"");
}

TEST(Wire, StreamDocumentRoundTrip) {
  auto document = value(json::read_stream_document(fixture("stream-document.json")));
  EXPECT_EQ(document.session_id, "0123456789abcdef0123456789abcdef");
  EXPECT_EQ(document.tracks,
            (std::vector<StreamTrack>{{"video_0", "video"}, {"audio_0", "audio"}}));
  EXPECT_EQ(value(json::read_stream_document(json::write(document))), document);
  EXPECT_EQ(problem(json::read_stream_document("{\"sessionId\":\"a\",\"tracks\":[]}" +
                                               std::string(65536, ' '))),
            "the document is larger than 65536 bytes");
}

TEST(Wire, ErrorsOfBothForms) {
  auto gone = json::read_api_error(fixture("error-410.json"));
  EXPECT_EQ(gone.code, "session_error");
  EXPECT_EQ(gone.description.substr(0, 26), "Session appears to be disc");
  EXPECT_EQ(json::read_api_error(json::write(gone)), gone);
  auto listed = json::read_api_error(fixture("error-404-list.json"));
  EXPECT_TRUE(listed);
  EXPECT_EQ(listed.description, "Could not route to the requested object");
  EXPECT_FALSE(json::read_api_error("{\"errors\":[]}"));
  EXPECT_FALSE(json::read_api_error("<html>502</html>"));
  EXPECT_FALSE(json::read_api_error(""));
}

TEST(Wire, ForeignErrorTextsAreMadeFitForLogs) {
  auto odd = json::read_api_error(
      "{\"errorCode\":\"Not A Code\",\"errorDescription\":\"line\\nfeed \\u001b[31m \\u202e\"}");
  EXPECT_EQ(odd.code, "unknown_error") << "it is an error all the same";
  EXPECT_EQ(odd.description, "line feed  [31m  ");
  auto edge = json::read_api_error("{\"errorCode\":\"" + std::string(80, 'a') + "\"}");
  EXPECT_EQ(edge.code, std::string(80, 'a'));
  EXPECT_EQ(json::read_api_error("{\"errorCode\":\"" + std::string(81, 'a') + "\"}").code,
            "unknown_error");
  auto lengthy = json::read_api_error("{\"errorCode\":\"a\",\"errorDescription\":\"" +
                                      std::string(5000, 'x') + "\"}");
  EXPECT_EQ(lengthy.description.size(), 300u);
  EXPECT_EQ(json::sanitise("\xff\xfe"), "\xef\xbf\xbd\xef\xbf\xbd");
  EXPECT_EQ(json::sanitise("ééé", 2), "éé");
}

struct Malformed {
  const char* text;
  const char* problem;
};

TEST(Wire, MalformedTracksRepliesNameTheMember) {
  const Malformed table[] = {
      {"", "the document is empty"},
      {"[]", "the document must be an object"},
      {"\"text\"", "the document must be an object"},
      {"{\"tracks\":{}}", "tracks must be a list"},
      {"{\"tracks\":[7]}", "tracks[0] must be an object"},
      {"{\"tracks\":[{\"mid\":0}]}", "tracks[0].mid must be a string"},
      {"{\"tracks\":[{},{\"mid\":[]}]}", "tracks[1].mid must be a string"},
      {"{\"tracks\":[{\"trackName\":true}]}", "tracks[0].trackName must be a string"},
      {"{\"tracks\":[{\"sessionId\":{}}]}", "tracks[0].sessionId must be a string"},
      {"{\"tracks\":[{\"kind\":1}]}", "tracks[0].kind must be a string"},
      {"{\"tracks\":[{\"location\":\"here\"}]}",
       "tracks[0].location must be \"local\" or \"remote\""},
      {"{\"tracks\":[{\"bidirectionalMediaStream\":\"yes\"}]}",
       "tracks[0].bidirectionalMediaStream must be true or false"},
      {"{\"tracks\":[{\"status\":4}]}", "tracks[0].status must be a string"},
      {"{\"tracks\":[{\"errorCode\":404}]}", "tracks[0].errorCode must be a string"},
      {"{\"tracks\":[{\"simulcast\":[]}]}", "tracks[0].simulcast must be an object"},
      {"{\"tracks\":[{\"simulcast\":{\"preferredRid\":1}}]}",
       "tracks[0].simulcast.preferredRid must be a string"},
      {"{\"tracks\":[{\"simulcast\":{\"ridNotAvailable\":\"x\"}}]}",
       "tracks[0].simulcast.ridNotAvailable must be \"none\" or \"asciibetical\""},
      {"{\"requiresImmediateRenegotiation\":\"false\"}",
       "requiresImmediateRenegotiation must be true or false"},
      {"{\"sessionDescription\":\"v=0\"}", "sessionDescription must be an object"},
      {"{\"sessionDescription\":{\"sdp\":\"\"}}", "sessionDescription.type must be a string"},
      {"{\"sessionDescription\":{\"type\":\"pranswer\",\"sdp\":\"\"}}",
       "sessionDescription.type must be \"offer\" or \"answer\""},
      {"{\"sessionDescription\":{\"type\":\"offer\"}}", "sessionDescription.sdp must be a string"},
      {"{\"errorCode\":false}", "errorCode must be a string"},
      {"{\"errorDescription\":1}", "errorDescription must be a string"},
  };
  for (const auto& row : table)
    EXPECT_EQ(problem(json::read_tracks_reply(row.text)), row.problem) << row.text;
}

TEST(Wire, OtherMalformedTextsNameTheMember) {
  EXPECT_EQ(problem(json::read_new_session_reply("{}")), "sessionId must be a string");
  EXPECT_EQ(problem(json::read_new_session_reply("{\"sessionId\":\"\"}")),
            "sessionId must not be empty");
  EXPECT_EQ(problem(json::read_new_session_reply("{\"sessionId\":5}")),
            "sessionId must be a string");
  EXPECT_EQ(problem(json::read_tracks_request("{\"autoDiscover\":1}")),
            "autoDiscover must be true or false");
  EXPECT_EQ(problem(json::read_renegotiate_request("{}")), "sessionDescription must be an object");
  EXPECT_EQ(problem(json::read_close_request("{\"tracks\":[{\"mid\":3}]}")),
            "tracks[0].mid must be a string");
  EXPECT_EQ(problem(json::read_close_request("{\"tracks\":[\"3\"]}")),
            "tracks[0] must be an object");
  EXPECT_EQ(problem(json::read_close_request("{\"tracks\":[],\"force\":1}")),
            "force must be true or false");
  for (const char* ttl : {"{}", "{\"ttl\":\"60\"}", "{\"ttl\":0}", "{\"ttl\":-1}", "{\"ttl\":1.5}",
                          "{\"ttl\":99999999999999999999}"})
    EXPECT_EQ(problem(json::read_ice_servers_request(ttl)), "ttl must be a positive integer")
        << ttl;
  EXPECT_EQ(problem(json::read_ice_servers("{}")), "iceServers must be a list");
  EXPECT_EQ(problem(json::read_ice_servers("{\"iceServers\":[{}]}")),
            "iceServers[0].urls must be a string or a list of strings");
  EXPECT_EQ(problem(json::read_ice_servers("{\"iceServers\":[{\"urls\":[1]}]}")),
            "iceServers[0].urls[0] must be a string");
  EXPECT_EQ(problem(json::read_stream_document("{\"sessionId\":\"a\"}")), "tracks must be a list");
  EXPECT_EQ(problem(json::read_stream_document("{\"sessionId\":\"\",\"tracks\":[]}")),
            "sessionId must not be empty");
  EXPECT_EQ(problem(json::read_stream_document(
                "{\"sessionId\":\"a\",\"tracks\":[{\"name\":\"\",\"kind\":\"video\"}]}")),
            "tracks[0].name must not be empty");
  EXPECT_EQ(problem(json::read_stream_document(
                "{\"sessionId\":\"a\",\"tracks\":[{\"name\":\"b\",\"kind\":\"text\"}]}")),
            "tracks[0].kind must be \"audio\" or \"video\"");
}

TEST(Wire, NullIsAnAbsentMember) {
  auto reply = value(
      json::read_tracks_reply("{\"tracks\":null,\"sessionDescription\":null,\"errorCode\":null,"
                              "\"requiresImmediateRenegotiation\":null}"));
  EXPECT_FALSE(reply.description);
  EXPECT_FALSE(reply.error);
  EXPECT_EQ(problem(json::read_new_session_reply("{\"sessionId\":null}")),
            "sessionId must be a string");
}

TEST(Wire, SyntaxIsCheckedStrictly) {
  for (const char* good : {"{}", " [ ] ", "0", "-0.5e+10", "\"\\u00e9\\ud83d\\ude00\\\\\\n\"",
                           "[1,[2,{\"a\":[]}]]", "{\"a\":null,\"a\":true}"})
    EXPECT_EQ(json::check_syntax(good), "") << good;
  for (const char* bad : {"",
                          " ",
                          "{",
                          "}",
                          "[",
                          "[1",
                          "[1,]",
                          "[,1]",
                          "{\"a\"}",
                          "{\"a\":}",
                          "{\"a\":1,}",
                          "{a:1}",
                          "{'a':1}",
                          "// c\n{}",
                          "/* c */{}",
                          "{}{}",
                          "01",
                          "1.",
                          ".5",
                          "+1",
                          "1e",
                          "-",
                          "NaN",
                          "tru",
                          "nul",
                          "\"",
                          "\"\\x\"",
                          "\"\\u12\"",
                          "\"\\u0000\"",
                          "\"\\ud800\"",
                          "\"\\ude00\"",
                          "\"\\ud83d\\u0041\"",
                          "\"a\nb\"",
                          "\"\xff\"",
                          "\"\xc0\x80\"",
                          "\"\xed\xa0\x80\"",
                          "\xef\xbb\xbf{}"})
    EXPECT_NE(json::check_syntax(bad), "") << bad;
  EXPECT_NE(json::check_syntax(std::string("{}\0", 3)), "");
  EXPECT_EQ(json::check_syntax("[\"a\n\"]"), "has a control character in a string (offset 3)");
}

TEST(Wire, SizeDepthAndNumberOfValuesAreBounded) {
  std::string deep = std::string(32, '[') + std::string(32, ']');
  EXPECT_EQ(json::check_syntax(deep), "");
  EXPECT_EQ(json::check_syntax("[" + deep + "]"), "is nested too deeply (offset 32)");
  std::string bottomless(1 << 20, '[');
  EXPECT_NE(problem(json::read_tracks_reply(bottomless)).find("nested too deeply"),
            std::string::npos);
  std::string many = "[0";
  for (int i = 0; i < 70000; ++i) many += ",0";
  EXPECT_NE(json::check_syntax(many + "]").find("too many values"), std::string::npos);
  EXPECT_EQ(problem(json::read_tracks_reply(std::string((1 << 20) + 1, ' '))),
            "the document is larger than 1048576 bytes");
}

TEST(Wire, EveryCutOfAReplyIsAnErrorAndNothingWorse) {
  for (const char* name :
       {"tracks-reply-pull.json", "tracks-reply-push.json", "session-state.json"}) {
    std::string text = fixture(name);
    text.erase(text.find_last_not_of("\n") + 1);
    for (std::size_t size = 0; size < text.size(); ++size)
      EXPECT_FALSE(json::read_tracks_reply(std::string_view(text).substr(0, size))) << size;
  }
}

TEST(Wire, TextsThatAreNoUtf8AreWrittenAsUtf8) {
  TracksRequest request;
  request.tracks.emplace_back();
  request.tracks[0].track_name = "cam\xff";
  std::string text = json::write(request);
  EXPECT_EQ(json::check_syntax(text), "");
  EXPECT_EQ(value(json::read_tracks_request(text)).tracks[0].track_name, "cam\xef\xbf\xbd");
}

TEST(Wire, CodesHaveKinds) {
  EXPECT_EQ(kind_of_code("empty_track_error"), ErrorKind::not_yet);
  EXPECT_EQ(kind_of_code("internal_error"), ErrorKind::server);
  EXPECT_EQ(kind_of_code("decoding_error"), ErrorKind::rejected);
  EXPECT_EQ(kind_of_code("session_error"), std::nullopt) << "410 and 425 both carry it";
  EXPECT_EQ(kind_of_code(""), std::nullopt);
}

}  // namespace
}  // namespace cfr
