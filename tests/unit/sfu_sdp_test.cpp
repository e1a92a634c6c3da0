// The local SFU's reading and writing of session descriptions.
#include "sfu/sdp.h"

#include <gtest/gtest.h>

#include <sstream>

#include "unit/helpers.h"

namespace cfr::sfu {
namespace {

using test::count;
using test::fixture;
using test::replaced;

ClientDescription read(const std::string& text) {
  auto result = read_description(text);
  EXPECT_TRUE(result) << (result ? "" : result.error().message);
  return result ? *result : ClientDescription{};
}

std::string problem(const std::string& text) {
  auto result = read_description(text);
  return result ? "" : result.error().message;
}

const MediaCodec* codec(const ClientSection& section, int payload_type) {
  for (const MediaCodec& codec : section.codecs)
    if (codec.payload_type == payload_type) return &codec;
  return nullptr;
}

std::string names(const ClientSection& section) {
  std::string all;
  for (const MediaCodec& codec : section.codecs)
    all += (all.empty() ? "" : " ") + std::to_string(codec.payload_type) + ":" + codec.name;
  return all;
}

// --- other stacks' offers --------------------------------------------------------------------

TEST(SfuSdpReading, ChromiumOffersVideoAndAudioToSend) {
  ClientDescription offer = read(fixture("chromium-publish.sdp"));
  EXPECT_EQ(offer.transport.ufrag, "mG8A");
  EXPECT_EQ(offer.transport.pwd, "ZTYGm9WHGmaZrDjXP0HI9Ypn");
  EXPECT_EQ(offer.transport.fingerprint_hash, "sha-256");
  EXPECT_EQ(offer.transport.fingerprint.substr(0, 11), "CB:FF:1F:91");
  EXPECT_FALSE(offer.transport.client_is_passive);
  ASSERT_EQ(offer.sections.size(), 2u);
  const ClientSection& video = offer.sections[0];
  EXPECT_EQ(video.mid, "0");
  EXPECT_EQ(video.kind, "video");
  EXPECT_TRUE(video.sends());
  EXPECT_FALSE(video.receives());
  EXPECT_FALSE(video.rejected);
  const MediaCodec* vp8 = codec(video, 96);
  ASSERT_TRUE(vp8);
  EXPECT_EQ(vp8->name, "VP8");
  EXPECT_EQ(vp8->rtx_payload_type, 97);
  EXPECT_TRUE(vp8->nack && vp8->pli && vp8->fir && vp8->transport_cc && vp8->remb);
  const MediaCodec* h264 = codec(video, 108);
  ASSERT_TRUE(h264);
  EXPECT_EQ(h264->fmtp, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f");
  EXPECT_EQ(h264->rtx_payload_type, 109);
  EXPECT_FALSE(codec(video, 118)) << "RED is nothing the SFU forwards";
  EXPECT_FALSE(codec(video, 97)) << "RTX belongs to its codec";
  ExtensionIds ids = extension_ids(video.extensions);
  EXPECT_EQ(ids.mid, 9);
  EXPECT_EQ(ids.rid, 10);
  EXPECT_EQ(ids.repaired_rid, 11);
  EXPECT_EQ(ids.transport_cc, 4);
  EXPECT_EQ(ids.abs_send_time, 2);
  const ClientSection& audio = offer.sections[1];
  EXPECT_EQ(names(audio), "111:opus 0:PCMU 8:PCMA");
  EXPECT_EQ(audio.codecs[0].channels, 2);
  EXPECT_EQ(audio.codecs[0].clock_rate, 48000);
  EXPECT_EQ(audio.codecs[0].fmtp, "minptime=10;useinbandfec=1");
  EXPECT_EQ(extension_ids(audio.extensions).audio_level, 14);
}

TEST(SfuSdpReading, ChromiumNamesItsSimulcastLayersInOrder) {
  ClientDescription offer = read(fixture("chromium-simulcast.sdp"));
  ASSERT_EQ(offer.sections.size(), 1u);
  EXPECT_EQ(offer.sections[0].rids, (std::vector<std::string>{"f", "h", "q"}));
  EXPECT_TRUE(offer.sections[0].ssrcs.empty());
}

TEST(SfuSdpReading, ChromiumOffersSectionsToReceive) {
  ClientDescription offer = read(fixture("chromium-whep.sdp"));
  ASSERT_EQ(offer.sections.size(), 2u);
  for (const ClientSection& section : offer.sections) {
    EXPECT_TRUE(section.receives());
    EXPECT_FALSE(section.sends());
  }
}

TEST(SfuSdpReading, ADataChannelIsASectionWithoutMedia) {
  ClientDescription offer = read(fixture("chromium-data.sdp"));
  ASSERT_EQ(offer.sections.size(), 2u);
  EXPECT_EQ(offer.sections[1].kind, "application");
  EXPECT_EQ(offer.sections[1].protocol, "UDP/DTLS/SCTP");
  EXPECT_TRUE(offer.sections[1].codecs.empty());
}

TEST(SfuSdpReading, FirefoxBundlesASectionWithPortZero) {
  ClientDescription offer = read(fixture("firefox-publish.sdp"));
  ASSERT_EQ(offer.sections.size(), 2u);
  EXPECT_EQ(offer.transport.fingerprint.substr(0, 8), "5E:1C:3B");
  EXPECT_EQ(offer.transport.ufrag, "4fa1b2c3");
  const ClientSection& video = offer.sections[1];
  EXPECT_FALSE(video.rejected) << "bundle-only is not rejected";
  EXPECT_EQ(names(video), "120:VP8 121:VP9 126:H264 97:H264");
  EXPECT_EQ(codec(video, 126)->rtx_payload_type, 127);
  ASSERT_EQ(video.ssrcs.size(), 1u);
  EXPECT_EQ(video.ssrcs[0].ssrc, 1684042513u);
  EXPECT_EQ(video.ssrcs[0].rtx_ssrc, 2411879530u);
  EXPECT_EQ(extension_ids(video.extensions).transport_cc, 7);
  EXPECT_EQ(names(offer.sections[0]), "109:opus 0:PCMU 8:PCMA");
}

TEST(SfuSdpReading, PionEndsLinesWithBlanks) {
  ClientDescription offer = read(fixture("pion-publish.sdp"));
  ASSERT_EQ(offer.sections.size(), 2u);
  const ClientSection& video = offer.sections[0];
  EXPECT_EQ(names(video), "102:H264");
  EXPECT_TRUE(video.codecs[0].nack && video.codecs[0].pli && video.codecs[0].transport_cc);
  ASSERT_EQ(video.ssrcs.size(), 1u) << "the repair stream is no track";
  EXPECT_EQ(video.ssrcs[0].ssrc, 3735928559u);
  EXPECT_EQ(video.ssrcs[0].rtx_ssrc, 305419896u);
  EXPECT_EQ(names(offer.sections[1]), "96:opus");
}

TEST(SfuSdpReading, WebrtcbinHasMidsThatAreNoNumbers) {
  ClientDescription offer = read(fixture("webrtcbin-publish.sdp"));
  ASSERT_EQ(offer.sections.size(), 2u);
  EXPECT_EQ(offer.sections[0].mid, "video0");
  EXPECT_EQ(offer.sections[1].mid, "audio1");
  EXPECT_FALSE(offer.sections[1].rejected);
  EXPECT_EQ(names(offer.sections[1]), "97:opus");
  EXPECT_FALSE(offer.sections[0].codecs[0].nack);
  EXPECT_TRUE(offer.sections[0].codecs[0].pli);
  EXPECT_EQ(offer.sections[0].ssrcs[0].ssrc, 2573428127u);
}

TEST(SfuSdpReading, CodecsAreNamedAsTheyAreKnownHere) {
  std::string text = fixture("chromium-publish.sdp");
  text = replaced(replaced(text, " VP8/90000", " vp8/90000"), " H264/90000", " h264/90000");
  ClientDescription offer = read(text);
  EXPECT_EQ(codec(offer.sections[0], 96)->name, "VP8");
  EXPECT_EQ(codec(offer.sections[0], 108)->name, "H264");
}

TEST(SfuSdpReading, LinesMayEndWithALineFeedAlone) {
  std::string text = fixture("chromium-publish.sdp");
  ClientDescription crlf = read(text), lf = read(replaced(text, "\r\n", "\n"));
  ASSERT_EQ(lf.sections.size(), crlf.sections.size());
  EXPECT_EQ(lf.transport.ufrag, crlf.transport.ufrag);
  EXPECT_EQ(names(lf.sections[0]), names(crlf.sections[0]));
}

// Lines of a section may say nothing that the session has said (RFC 8122, 8839, 8842).
TEST(SfuSdpReading, CredentialsAndSetupMayStandInTheSessionPart) {
  std::string text =
      "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=ice-ufrag:abcd\r\n"
      "a=ice-pwd:0123456789012345678901\r\na=fingerprint:SHA-256 AA:BB\r\na=setup:passive\r\n"
      "a=group:BUNDLE 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=sendonly\r\n"
      "a=rtcp-mux\r\n";
  ClientDescription offer = read(text);
  EXPECT_EQ(offer.transport.ufrag, "abcd");
  EXPECT_EQ(offer.transport.pwd, "0123456789012345678901");
  EXPECT_EQ(offer.transport.fingerprint, "AA:BB");
  EXPECT_TRUE(offer.transport.client_is_passive);
  ASSERT_EQ(offer.sections[0].codecs.size(), 1u) << "a static payload type needs no rtpmap";
  EXPECT_EQ(offer.sections[0].codecs[0].name, "PCMU");
}

TEST(SfuSdpReading, FeedbackForAllFormatsCounts) {
  std::string text = fixture("webrtcbin-publish.sdp");
  text = replaced(text, "a=rtcp-fb:96 nack pli", "a=rtcp-fb:* nack");
  EXPECT_TRUE(read(text).sections[0].codecs[0].nack);
}

// --- what cannot be read ---------------------------------------------------------------------

TEST(SfuSdpReading, SaysWhatIsWrong) {
  const std::string good = fixture("chromium-publish.sdp");
  auto lines_gone = [&](const std::string& begin) {
    std::string out;
    std::istringstream lines(good);
    for (std::string line; std::getline(lines, line);)
      if (line.rfind(begin, 0) != 0) out += line + "\n";
    return out;
  };
  const struct {
    const char* what;
    std::string text, says;
  } cases[] = {
      {"nothing", "", "empty"},
      {"trimmed", good.substr(0, good.size() - 2), "missing termination at the end"},
      {"no ufrag", lines_gone("a=ice-ufrag"), "SDP contains no ice-ufrag"},
      {"no password", lines_gone("a=ice-pwd"), "SDP contains no ice-pwd"},
      {"no fingerprint", lines_gone("a=fingerprint"), "SDP contains no fingerprint"},
      {"a fingerprint of one word",
       replaced(good, "a=fingerprint:sha-256 ", "a=fingerprint:sha-256"), "no fingerprint"},
      {"no version", good.substr(good.find("o=")), "no version"},
      {"another version", replaced(good, "v=0", "v=1"), "version"},
      {"no sections", good.substr(0, good.find("m=")), "no media section"},
      {"no form", good + "nonsense\r\n", "x=value"},
      {"a cut media line", replaced(good, "m=video 9 UDP/TLS/RTP/SAVPF", "m=video 9\r\na=x:"),
       "incomplete media line"},
      {"a port out of range", replaced(good, "m=video 9 ", "m=video 99999 "), "bad port"},
      {"a mid twice", replaced(good, "a=mid:1", "a=mid:0"), "mid twice"},
      {"a mid with a blank", replaced(good, "a=mid:1", "a=mid:1 0"), "mid"},
      {"a mid too long", replaced(good, "a=mid:1", "a=mid:" + std::string(65, 'm')), "mid"},
      {"a short password", replaced(good, "a=ice-pwd:ZTYGm9WHGmaZrDjXP0HI9Ypn", "a=ice-pwd:short"),
       "length"},
      {"a long text", good + std::string(600 * 1024, 'a') + "\r\n", "too long"},
      {"a character of control", replaced(good, "s=-", std::string("s=\0-", 4)), "character"},
  };
  for (const auto& c : cases)
    EXPECT_NE(problem(c.text).find(c.says), std::string::npos)
        << c.what << " gives: " << problem(c.text);
}

TEST(SfuSdpReading, NoCutOfAnOfferDoesHarm) {
  for (const char* name : {"chromium-publish.sdp", "firefox-publish.sdp", "pion-publish.sdp"}) {
    const std::string text = fixture(name);
    for (std::size_t n = 0; n <= text.size(); n += 7) {
      auto whole = read_description(std::string_view(text).substr(0, n));
      auto ended = read_description(text.substr(0, n) + "\r\n");
      for (const auto* result : {&whole, &ended}) {
        if (!*result) continue;
        for (const ClientSection& section : (*result)->sections) EXPECT_FALSE(section.mid.empty());
      }
    }
  }
}

// RFC 8853: the order of a=simulcast counts, "~" pauses, and alternatives are separated by commas.
TEST(SfuSdpReading, LayersStandInTheOrderOfTheSimulcastLine) {
  std::string text = replaced(fixture("chromium-simulcast.sdp"), "a=simulcast:send f;h;q",
                              "a=simulcast:recv x send ~q;h,f;nobody");
  EXPECT_EQ(read(text).sections[0].rids, (std::vector<std::string>{"q", "h"}));
}

TEST(SfuSdpReading, SectionsOutsideTheBundleAreKnown) {
  std::string text = fixture("chromium-publish.sdp");
  ClientDescription both = read(text);
  EXPECT_TRUE(both.has_bundle);
  EXPECT_TRUE(both.sections[0].bundled && both.sections[1].bundled);
  ClientDescription second = read(replaced(text, "BUNDLE 0 1", "BUNDLE 1"));
  EXPECT_FALSE(second.sections[0].bundled);
  EXPECT_TRUE(second.sections[1].bundled);
  EXPECT_FALSE(read(replaced(text, "a=group:BUNDLE 0 1", "a=x:y")).has_bundle);
}

// A client that ends all it has stopped has no transport to describe any more.
TEST(SfuSdpReading, AnOfferOfRejectedSectionsNeedsNoCredentials) {
  ClientDescription offer = read(
      "v=0\r\no=- 1 3 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
      "m=video 0 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=inactive\r\na=mid:0\r\n");
  ASSERT_EQ(offer.sections.size(), 1u);
  EXPECT_TRUE(offer.sections[0].rejected);
}

TEST(SfuSdpReading, OfSeveralFingerprintsTheOneWithSha256Counts) {
  std::string text = replaced(fixture("chromium-publish.sdp"), "a=fingerprint:sha-256 ",
                              "a=fingerprint:sha-1 AA:BB\r\na=fingerprint:sha-256 ");
  EXPECT_EQ(read(text).transport.fingerprint_hash, "sha-256");
}

TEST(SfuSdpReading, ManySectionsSsrcsAndRidsAreBounded) {
  std::string text = fixture("pion-publish.sdp");
  for (int i = 0; i < 500; ++i) text += "a=ssrc:" + std::to_string(1000 + i) + " cname:x\r\n";
  for (int i = 0; i < 500; ++i) text += "a=rid:r" + std::to_string(i) + " send\r\n";
  ClientDescription offer = read(text);
  EXPECT_LE(offer.sections[1].ssrcs.size(), 64u);
  EXPECT_LE(offer.sections[1].rids.size(), 8u);
  std::string many = text.substr(0, text.find("m="));
  for (int i = 0; i < 2000; ++i)
    many += "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:x" + std::to_string(i) + "\r\n";
  EXPECT_NE(problem(many).find("too many"), std::string::npos);
}

TEST(SfuSdpReading, FormatsAreReadOnceAndBounded) {
  std::string head = fixture("pion-publish.sdp");
  head = head.substr(0, head.find("m="));
  const std::string transport =
      "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=fingerprint:sha-256 AA:BB\r\n";
  std::string zeros, line = "m=audio 9 UDP/TLS/RTP/SAVPF";
  for (int i = 0; i < 1000; ++i) line += " 0";
  for (int i = 0; i < 200; ++i) line += " " + (zeros += "0");  // the same number once more
  std::string text = head + line + "\r\n" + transport + "a=fmtp:0 " + std::string(20000, 'x') +
                     "\r\na=rtcp-fb:* nack\r\n";
  for (int i = 0; i < 16000; ++i) text += "a=rtcp-fb:* x\r\n";
  ClientDescription offer = read(text);
  ASSERT_EQ(offer.sections.size(), 1u);
  EXPECT_LE(offer.sections[0].formats.size(), 128u);
  EXPECT_EQ(names(offer.sections[0]), "0:PCMU");
  EXPECT_LE(offer.sections[0].codecs.at(0).fmtp.size(), 4096u);
  EXPECT_TRUE(offer.sections[0].codecs.at(0).nack);
}

TEST(SfuSdpReading, ExtensionsAreBounded) {
  std::string text = fixture("pion-publish.sdp");
  text = text.substr(0, text.find("m="));
  for (int i = 0; i < 15000; ++i) text += "a=extmap:1 urn:x-" + std::to_string(i) + "\r\n";
  text += "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=fingerprint:sha-256 AA:BB\r\n";
  for (int i = 0; i < 256; ++i) {
    text += "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:x" + std::to_string(i) + "\r\n";
    for (int j = 0; j < 10; ++j) text += "a=extmap:2 urn:own-" + std::to_string(j) + "\r\n";
  }
  text += "a=extmap:3 urn:" + std::string(1000, 'x') + "\r\n";
  ClientDescription offer = read(text);
  ASSERT_EQ(offer.sections.size(), 256u);
  for (const ClientSection& section : offer.sections) {
    EXPECT_LE(section.extensions.size(), 64u);
    EXPECT_TRUE(section.extensions.count("urn:own-9"));
    for (const auto& [uri, id] : section.extensions) EXPECT_LE(uri.size(), 256u);
  }
}

// --- writing ---------------------------------------------------------------------------------

LocalTransport local() {
  LocalTransport local;
  local.ufrag = "ourU";
  local.pwd = "ourPasswordOfTwentyTwo";
  local.fingerprint = "11:22:33";
  local.address = "127.0.0.1";
  local.port = 5000;
  return local;
}

OurSection section(const std::string& mid, const std::string& kind, Direction direction) {
  OurSection section;
  section.mid = mid;
  section.kind = kind;
  section.protocol = "UDP/TLS/RTP/SAVPF";
  section.direction = direction;
  MediaCodec codec;
  codec.name = kind == "video" ? "VP8" : "opus";
  codec.payload_type = kind == "video" ? 96 : 111;
  codec.rtx_payload_type = kind == "video" ? 97 : -1;
  codec.clock_rate = kind == "video" ? 90000 : 48000;
  codec.channels = kind == "video" ? 0 : 2;
  codec.nack = codec.pli = kind == "video";
  section.codecs = {codec};
  return section;
}

TEST(SfuSdpWriting, IsInTheStyleOfTheService) {
  std::string text = write_description(
      {false, 17, 18}, local(),
      {section("0", "video", Direction::recvonly), section("1", "audio", Direction::recvonly)});
  EXPECT_EQ(text.rfind("v=0\r\no=- 17 18 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n", 0), 0u);
  std::string session = text.substr(0, text.find("m="));
  EXPECT_EQ(count(session, "a=ice-lite\r\n"), 1u);
  EXPECT_EQ(count(session, "a=msid-semantic:WMS*\r\n"), 1u);
  EXPECT_EQ(count(session, "a=fingerprint:sha-256 11:22:33\r\n"), 1u);
  EXPECT_EQ(count(text, "a=fingerprint"), 1u);
  EXPECT_EQ(count(session, "a=group:BUNDLE 0 1\r\n"), 1u);
  EXPECT_EQ(count(text, "a=setup:passive\r\n"), 2u);
  EXPECT_EQ(count(text, "a=ice-ufrag:ourU\r\n"), 2u);
  EXPECT_EQ(count(text, "a=rtcp-mux\r\n"), 2u);
  EXPECT_EQ(count(text, "a=rtcp-rsize\r\n"), 2u);
  EXPECT_EQ(count(text, "a=candidate:"), 2u) << "component 1 and 2";
  EXPECT_EQ(count(text, "a=end-of-candidates\r\n"), 1u);
  EXPECT_LT(text.find("a=end-of-candidates"), text.find("m=audio")) << "in the first section";
  EXPECT_EQ(count(text, "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\n"), 1u);
  EXPECT_EQ(count(text, "a=fmtp:97 apt=96\r\n"), 1u);
  EXPECT_EQ(count(text, "a=rtpmap:111 opus/48000/2\r\n"), 1u);
  EXPECT_EQ(text.substr(text.size() - 2), "\r\n");
}

TEST(SfuSdpWriting, OffersLeaveTheDtlsRoleOpen) {
  std::string text =
      write_description({true, 1, 1}, local(), {section("0", "video", Direction::sendonly)});
  EXPECT_EQ(count(text, "a=setup:actpass\r\n"), 1u);
}

TEST(SfuSdpWriting, AClientThatInsistsOnBeingPassiveIsAnsweredActive) {
  std::string text =
      write_description({false, 1, 1, true}, local(), {section("0", "video", Direction::recvonly)});
  EXPECT_EQ(count(text, "a=setup:active\r\n"), 1u);
}

TEST(SfuSdpWriting, RejectedSectionsStandOutsideTheBundle) {
  OurSection rejected = section("0", "video", Direction::inactive);
  rejected.rejected = true;
  rejected.protocol = "UDP/TLS/RTP/SAVPF";
  rejected.formats = {"96", "97"};
  rejected.codecs.resize(1);
  rejected.codecs[0].name = "VP8";
  rejected.codecs[0].payload_type = 96;
  std::string text = write_description({false, 1, 1}, local(),
                                       {rejected, section("1", "audio", Direction::recvonly)});
  EXPECT_EQ(count(text, "m=video 0 UDP/TLS/RTP/SAVPF 96 97\r\n"), 1u);
  EXPECT_EQ(count(text, "a=rtpmap:96 VP8/90000\r\n"), 1u) << "for clients that look for a codec";
  EXPECT_EQ(count(text, "a=group:BUNDLE 1\r\n"), 1u);
  EXPECT_GT(text.find("a=candidate"), text.find("m=audio")) << "the tag of the bundle has them";
}

TEST(SfuSdpWriting, WhatWeSendHasItsSsrcsAndMsid) {
  OurSection pull = section("4", "video", Direction::sendonly);
  pull.ssrcs = {1001, 1002};
  pull.cname = "someone";
  pull.stream_id = "track";
  std::string text = write_description({true, 1, 1}, local(), {pull});
  EXPECT_EQ(count(text, "a=ssrc-group:FID 1001 1002\r\n"), 1u);
  EXPECT_EQ(count(text, "a=ssrc:1001 cname:someone\r\n"), 1u);
  EXPECT_EQ(count(text, "a=ssrc:1001 msid:someone track\r\n"), 1u);
  EXPECT_EQ(count(text, "a=msid:someone track\r\n"), 1u);
  EXPECT_EQ(count(text, "a=sendonly\r\n"), 1u);
}

TEST(SfuSdpWriting, LayersAreReceivedByTheirNames) {
  OurSection push = section("0", "video", Direction::recvonly);
  push.receive_rids = {"f", "h", "q"};
  std::string text = write_description({false, 1, 1}, local(), {push});
  EXPECT_EQ(count(text, "a=rid:h recv\r\n"), 1u);
  EXPECT_EQ(count(text, "a=simulcast:recv f;h;q\r\n"), 1u);
}

TEST(SfuSdpWriting, CanBeReadAgain) {
  OurSection pull = section("1", "video", Direction::sendonly);
  pull.ssrcs = {1001, 1002};
  pull.cname = "c";
  pull.stream_id = "s";
  std::string text =
      write_description({true, 1, 1}, local(), {section("0", "audio", Direction::recvonly), pull});
  ClientDescription again = read(text);
  EXPECT_EQ(again.transport.ufrag, "ourU");
  ASSERT_EQ(again.sections.size(), 2u);
  EXPECT_EQ(again.sections[1].ssrcs[0].rtx_ssrc, 1002u);
  EXPECT_EQ(again.sections[1].codecs[0].rtx_payload_type, 97);
}

}  // namespace
}  // namespace cfr::sfu
