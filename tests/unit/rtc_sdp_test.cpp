// The dialog of descriptions, as text, without webrtcbin.
#include "rtc/sdp.h"

#include <gtest/gtest.h>

#include <random>

#include "rtc/ice_servers.h"
#include "rtc/rtp_header.h"
#include "rtc/sdp_rules.h"
#include "unit/helpers.h"

namespace cfr {
namespace {

using test::fixture;
using test::replaced;

uint32_t counting() {
  static uint32_t next = 9000;
  return next++;
}

SdpDialog make_dialog() {
  return SdpDialog("token", {"H264", "VP8", "VP9", "OPUS", "PCMU", "PCMA"}, counting);
}

SdpTrack video(uint32_t id = 1, int payload = 96) {
  SdpTrack track;
  track.id = id;
  track.name = "cam";
  track.kind = "video";
  track.ssrc = 1000 + id;
  track.format.payload = payload;
  track.format.encoding = "VP8";
  track.format.clock_rate = 90000;
  return track;
}

SdpTrack audio(uint32_t id = 2) {
  SdpTrack track;
  track.id = id;
  track.name = "mic with blanks";
  track.kind = "audio";
  track.ssrc = 1000 + id;
  track.format.payload = 111;
  track.format.encoding = "OPUS";
  track.format.clock_rate = 48000;
  track.format.parameters = "2";
  return track;
}

// What webrtcbin makes, as far as the dialog reads it.
std::string generated(const std::vector<std::string>& mids) {
  std::string text = "v=0\r\no=- 1 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n";
  for (const std::string& mid : mids)
    text += "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:" + mid +
            "\r\na=ice-ufrag:ours\r\na=ice-pwd:ourPasswordOfSufficientLength\r\n"
            "a=fingerprint:sha-256 AA:BB\r\n";
  return text;
}

SdpText parsed(const std::string& text) {
  Result<SdpText> sdp = parse_sdp(text);
  EXPECT_TRUE(bool(sdp)) << (sdp ? "" : sdp.error().message) << text;
  return sdp ? *sdp : SdpText();
}

std::string value(const SdpAttributes& attributes, const char* name) {
  const std::string* found = attributes.find(name);
  return found ? *found : "(none)";
}

std::vector<std::string> values(const SdpAttributes& attributes, const char* name) {
  std::vector<std::string> out;
  for (const SdpAttribute& a : attributes)
    if (a.name == name) out.push_back(a.value);
  return out;
}

TEST(SdpOffer, ReadsAsABrowserWouldWriteIt) {
  SdpDialog dialog = make_dialog();
  EXPECT_EQ(*dialog.add_track(video()), "0");
  EXPECT_EQ(*dialog.add_track(audio()), "1");
  const auto texts = dialog.offer(generated({"0", "1"}));
  ASSERT_TRUE(bool(texts));
  EXPECT_EQ(texts->wire.substr(texts->wire.size() - 2), "\r\n");
  EXPECT_EQ(texts->wire.find("\n\r"), std::string::npos);
  const SdpText wire = parsed(texts->wire);
  EXPECT_EQ(value(wire.attributes, "group"), "BUNDLE 0 1");
  ASSERT_EQ(wire.sections.size(), 2u);
  for (const SdpSection& section : wire.sections) {
    EXPECT_EQ(section.port, 9u);
    EXPECT_EQ(section.protocol, "UDP/TLS/RTP/SAVPF");
    EXPECT_EQ(value(section.attributes, "setup"), "actpass");
    EXPECT_EQ(value(section.attributes, "ice-ufrag"), "ours");
    EXPECT_TRUE(section.attributes.has("sendonly"));
    EXPECT_TRUE(section.attributes.has("rtcp-mux"));
    EXPECT_FALSE(section.attributes.has("bundle-only"));
  }
  const SdpSection& cam = wire.sections[0];
  EXPECT_EQ(cam.formats, (std::vector<std::string>{"96", "97"}));
  EXPECT_EQ(value(cam.attributes, "msid"), "token cam");
  EXPECT_EQ(values(cam.attributes, "rtcp-fb"),
            (std::vector<std::string>{"96 transport-cc", "96 ccm fir", "96 nack", "96 nack pli"}));
  EXPECT_EQ(values(cam.attributes, "fmtp"), std::vector<std::string>{"97 apt=96"});
  const uint32_t rtx = dialog.repairs().at(0).rtx_ssrc;
  EXPECT_EQ(value(cam.attributes, "ssrc-group"), "FID 1001 " + std::to_string(rtx));
  EXPECT_EQ(value(cam.attributes, "ssrc"), "1001 cname:token");
  const SdpSection& mic = wire.sections[1];
  EXPECT_EQ(value(mic.attributes, "msid"), "token track-1") << "a name that is no token";
  EXPECT_EQ(value(mic.attributes, "rtpmap"), "111 opus/48000/2");
  EXPECT_EQ(value(mic.attributes, "fmtp"), "111 minptime=10;useinbandfec=1");
  EXPECT_FALSE(mic.attributes.has("ssrc-group"));
  EXPECT_EQ(values(mic.attributes, "extmap").size(), 4u);
}

TEST(SdpOffer, GivesEachCodecOneRepairPayloadTypeThatNothingElseUses) {
  SdpDialog dialog = make_dialog();
  ASSERT_TRUE(bool(dialog.add_track(video(1, 96))));
  SdpTrack h264 = video(2, 97);  // beside VP8, where its RTX went
  h264.format.encoding = "H264";
  EXPECT_FALSE(bool(dialog.add_track(h264)));
  h264.format.payload = 102;
  ASSERT_TRUE(bool(dialog.add_track(h264)));
  SdpTrack again = video(3, 96);
  ASSERT_TRUE(bool(dialog.add_track(again)));
  const SdpText wire = parsed(dialog.offer(generated({"0", "1", "2"}))->wire);
  EXPECT_EQ(wire.sections[1].formats, (std::vector<std::string>{"102", "103"}));
  EXPECT_EQ(wire.sections[2].formats, (std::vector<std::string>{"96", "97"}));
  EXPECT_NE(value(wire.sections[1].attributes, "fmtp").find("profile-level-id=42e01f"),
            std::string::npos);
}

TEST(SdpOffer, PutsCandidatesIntoTheFirstLiveSection) {
  SdpDialog dialog = make_dialog();
  (void)dialog.add_track(video());
  (void)dialog.add_track(audio());
  const std::string wire =
      SdpDialog::with_candidates(dialog.offer(generated({"0", "1"}))->wire,
                                 {"candidate:1 1 UDP 2015363327 192.0.2.1 5000 typ host",
                                  "candidate:1 2 UDP 2015363327 192.0.2.1 5001 typ host"});
  const SdpText sdp = parsed(wire);
  EXPECT_EQ(values(sdp.sections[0].attributes, "candidate"),
            std::vector<std::string>{"1 1 UDP 2015363327 192.0.2.1 5000 typ host"});
  EXPECT_FALSE(sdp.sections[1].attributes.has("candidate"));
}

TEST(SdpAnswerFromSfu, IsGivenToWebrtcbinWithEverythingInEverySection) {
  SdpDialog dialog = make_dialog();
  (void)dialog.add_track(video());
  (void)dialog.add_track(audio());
  (void)dialog.offer(generated({"0", "1"}));
  const auto remote = dialog.remote_answer(fixture("publish-answer.sdp"));
  ASSERT_TRUE(bool(remote)) << remote.error().message;
  EXPECT_TRUE(remote->rejected_mids.empty());
  const SdpText inner = parsed(remote->inner);
  EXPECT_FALSE(inner.attributes.has("fingerprint")) << "1.22 refuses it in both places";
  EXPECT_TRUE(inner.attributes.has("ice-lite"));
  for (const SdpSection& section : inner.sections) {
    EXPECT_EQ(value(section.attributes, "setup"), "passive");
    EXPECT_EQ(value(section.attributes, "ice-ufrag"), "aUfragOfTheSfu");
    EXPECT_TRUE(section.attributes.has("fingerprint"));
    EXPECT_TRUE(section.attributes.has("recvonly"));
  }
  EXPECT_EQ(values(inner.sections[0].attributes, "candidate"),
            std::vector<std::string>{"1 1 udp 2130706431 127.0.0.1 1473 typ host"});
  EXPECT_EQ(values(inner.sections[0].attributes, "rtcp-fb"),
            (std::vector<std::string>{"96 nack", "96 nack pli", "96 ccm fir", "96 transport-cc"}))
      << "without pion's trailing blanks";
}

TEST(SdpAnswerFromSfu, MayRejectASectionAndStillCarryItsCandidates) {
  SdpDialog dialog = make_dialog();
  (void)dialog.add_track(video());
  (void)dialog.add_track(audio());
  (void)dialog.offer(generated({"0", "1"}));
  const auto remote = dialog.remote_answer(fixture("publish-answer-rejected.sdp"));
  ASSERT_TRUE(bool(remote)) << remote.error().message;
  EXPECT_EQ(remote->rejected_mids, std::vector<std::string>{"0"});
  const SdpText inner = parsed(remote->inner);
  EXPECT_EQ(inner.sections[0].port, 9u) << "the first section is webrtcbin's transport";
  EXPECT_EQ(value(inner.attributes, "group"), "BUNDLE 0 1");
  EXPECT_TRUE(inner.sections[0].attributes.has("candidate"));
  (void)dialog.add_track(audio(3));
  const SdpText next = parsed(dialog.offer(generated({"0", "1", "2"}))->wire);
  EXPECT_EQ(next.sections[0].port, 0u);
  EXPECT_EQ(value(next.sections[0].attributes, "ice-ufrag"),
            value(next.sections[1].attributes, "ice-ufrag"))
      << "as browsers do";
  EXPECT_EQ(value(next.attributes, "group"), "BUNDLE 1 2");
  EXPECT_EQ(value(next.sections[1].attributes, "setup"), "actpass");
}

// As pion writes it: no section has a transport then.
TEST(SdpAnswerFromSfu, ThatRejectsAllSectionsSaysSo) {
  SdpDialog dialog = make_dialog();
  (void)dialog.add_track(video());
  (void)dialog.offer(generated({"0"}));
  const std::string rejected = fixture("publish-answer-rejected.sdp");
  const auto remote = dialog.remote_answer(
      replaced(rejected.substr(0, rejected.find("m=audio")), "BUNDLE 1", "BUNDLE"));
  ASSERT_FALSE(bool(remote));
  EXPECT_EQ(remote.error().kind, ErrorKind::rejected);
}

TEST(SdpAnswerFromSfu, MayRenumberACodec) {
  SdpDialog dialog = make_dialog();
  (void)dialog.add_track(video(1, 100));
  (void)dialog.offer(generated({"0"}));
  std::string answer = fixture("publish-answer.sdp");
  answer = answer.substr(0, answer.find("m=audio"));
  EXPECT_FALSE(dialog.renumbered(1));
  const auto remote = dialog.remote_answer(replaced(answer, "apt=96", "apt=100"));
  ASSERT_TRUE(bool(remote)) << remote.error().message;
  EXPECT_EQ(dialog.renumbered(1), 96);
  EXPECT_EQ(parsed(remote->inner).sections[0].formats, std::vector<std::string>{"96"})
      << "a repair format of a payload type that is not there";
}

TEST(SdpAnswerFromSfu, IsRefusedWhenItDoesNotFitTheOffer) {
  const std::string good = fixture("publish-answer.sdp");
  const struct {
    const char* what;
    std::string text;
    ErrorKind kind;
  } kBad[] = {
      {"empty", "", ErrorKind::protocol},
      {"html", "<html></html>", ErrorKind::protocol},
      {"one section", good.substr(0, good.find("m=audio")), ErrorKind::protocol},
      {"swapped", replaced(replaced(good, "a=mid:0", "a=mid:x"), "a=mid:1", "a=mid:0"),
       ErrorKind::protocol},
      {"kinds", replaced(good, "m=audio", "m=video"), ErrorKind::protocol},
      {"no credentials", replaced(good, "a=ice-ufrag", "a=x-ufrag"), ErrorKind::protocol},
      {"short password", replaced(good, "aPasswordOfTheSfuThatIsLong", "short"),
       ErrorKind::protocol},
      {"no fingerprint", replaced(good, "a=fingerprint", "a=x-fingerprint"), ErrorKind::protocol},
      {"cut fingerprint", replaced(good, ":30:", "\r\na=x:"), ErrorKind::protocol},
      {"weak hash", replaced(good, "sha-256", "sha-1"), ErrorKind::protocol},
      {"NUL", good + std::string("a=x\0y\r\n", 7), ErrorKind::protocol},
      {"not UTF-8", good + "a=x:\xff\xfe\r\n", ErrorKind::protocol},
      {"escape", good + "a=x:\x1b[2J\r\n", ErrorKind::protocol},
      {"too large", good + std::string(300 * 1024, 'a'), ErrorKind::protocol},
      {"no origin", replaced(good, "o=-", "s=-"), ErrorKind::protocol},
  };
  for (const auto& bad : kBad) {
    SCOPED_TRACE(bad.what);
    SdpDialog dialog = make_dialog();
    (void)dialog.add_track(video());
    (void)dialog.add_track(audio());
    (void)dialog.offer(generated({"0", "1"}));
    const auto remote = dialog.remote_answer(bad.text);
    ASSERT_FALSE(bool(remote));
    EXPECT_EQ(remote.error().kind, bad.kind);
    EXPECT_EQ(remote.error().message.back(), '.');
  }
}

TEST(SdpAnswerFromSfu, ThatRestartsIceAsksForANewSession) {
  SdpDialog dialog = make_dialog();
  (void)dialog.add_track(video());
  (void)dialog.add_track(audio());
  (void)dialog.offer(generated({"0", "1"}));
  const std::string good = fixture("publish-answer.sdp");
  ASSERT_TRUE(bool(dialog.remote_answer(good)));
  for (const std::string& other :
       {replaced(good, "aUfragOfTheSfu", "another"), replaced(good, "sha-256 0B", "sha-256 0C")}) {
    const auto remote = dialog.remote_answer(other);
    ASSERT_FALSE(bool(remote));
    EXPECT_EQ(remote.error().kind, ErrorKind::gone);
  }
  EXPECT_TRUE(bool(dialog.remote_answer(good)));
}

TEST(SdpOfferFromSfu, IsAnsweredWithEveryCodecWeCanReceive) {
  SdpDialog dialog = make_dialog();
  const auto remote = dialog.remote_offer(fixture("pull-offer.sdp"));
  ASSERT_TRUE(bool(remote)) << remote.error().message;
  EXPECT_TRUE(remote->rejected_mids.empty());
  const SdpText inner = parsed(remote->inner);
  EXPECT_EQ(value(inner.sections[0].attributes, "setup"), "actpass");
  EXPECT_EQ(value(inner.sections[0].attributes, "ssrc"), "2596996162 cname:PublisherVideo");

  const auto texts = dialog.answer(generated({"0", "1"}));
  ASSERT_TRUE(bool(texts)) << texts.error().message;
  for (const std::string& text : {texts->wire, texts->inner}) {
    const SdpText answer = parsed(text);
    ASSERT_EQ(answer.sections.size(), 2u);
    const SdpSection& cam = answer.sections[0];
    EXPECT_EQ(cam.formats, (std::vector<std::string>{"125", "37", "98", "36", "96", "35"}));
    EXPECT_EQ(value(cam.attributes, "setup"), "active");
    EXPECT_TRUE(cam.attributes.has("recvonly"));
    EXPECT_EQ(values(cam.attributes, "fmtp")[0],
              "125 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f");
    EXPECT_EQ(values(cam.attributes, "extmap").size(), 2u) << "mid and transport-cc, not rid";
    EXPECT_EQ(values(cam.attributes, "rtcp-fb"),
              (std::vector<std::string>{"125 nack", "125 nack pli", "125 transport-cc", "98 nack",
                                        "98 nack pli", "98 transport-cc", "96 nack", "96 nack pli",
                                        "96 transport-cc"}))
        << "neither goog-remb, nor FIR where there is PLI";
    EXPECT_EQ(answer.sections[1].formats, (std::vector<std::string>{"111", "0", "8"}));
  }
  EXPECT_EQ(dialog.mid_extension_id(), 1);
  EXPECT_TRUE(dialog.repairs_section("0"));
  EXPECT_FALSE(dialog.repairs_section("1"));
}

TEST(SdpOfferFromSfu, OnALiveConnectionKeepsTheDtlsRole) {
  SdpDialog dialog = make_dialog();
  (void)dialog.add_track(video());
  (void)dialog.add_track(audio());
  (void)dialog.offer(generated({"0", "1"}));
  ASSERT_TRUE(bool(dialog.remote_answer(fixture("publish-answer.sdp"))));
  std::string offer = fixture("publish-answer.sdp");
  offer = replaced(offer, "a=setup:passive", "a=setup:actpass");
  const std::string pulled = fixture("pull-offer.sdp");
  std::string section = pulled.substr(pulled.find("m=audio"));
  section = replaced(section, "a=mid:1", "a=mid:2");
  ASSERT_TRUE(bool(dialog.remote_offer(offer + section)));
  const SdpText answer = parsed(dialog.answer(generated({"0", "1", "2"}))->wire);
  EXPECT_EQ(value(answer.sections[2].attributes, "setup"), "active");
  EXPECT_TRUE(answer.sections[0].attributes.has("sendonly"));
  EXPECT_TRUE(answer.sections[2].attributes.has("recvonly"));
}

TEST(SdpOfferFromSfu, HidesInactiveSectionsFromWebrtcbin) {
  SdpDialog dialog = make_dialog();
  const std::string offer = fixture("pull-offer.sdp");
  ASSERT_TRUE(bool(dialog.remote_offer(offer)));
  (void)dialog.answer(generated({"0", "1"}));
  std::string closed = offer;
  closed.replace(closed.find("a=sendonly"), 10, "a=inactive");
  const auto remote = dialog.remote_offer(closed);
  ASSERT_TRUE(bool(remote));
  EXPECT_EQ(remote->inner.find("inactive"), std::string::npos);
  EXPECT_TRUE(parsed(remote->inner).sections[0].attributes.has("sendonly"));
  auto texts = dialog.answer(generated({"0", "1"}));
  EXPECT_EQ(texts->inner.find("inactive"), std::string::npos);
  EXPECT_TRUE(parsed(texts->wire).sections[0].attributes.has("inactive"));
  EXPECT_TRUE(parsed(texts->wire).sections[1].attributes.has("recvonly"));
  EXPECT_EQ(dialog.section_of(2596996162, "", 96, {}), "") << "nobody's media now";

  ASSERT_TRUE(bool(dialog.remote_offer(offer))) << "the section is used again";
  texts = dialog.answer(generated({"0", "1"}));
  EXPECT_TRUE(parsed(texts->wire).sections[0].attributes.has("recvonly"));
  EXPECT_EQ(dialog.section_of(2596996162, "", 96, {}), "0");
}

TEST(SdpOfferFromSfu, WithDeadSectionsIsMadeWhole) {
  SdpDialog dialog = make_dialog();
  std::string offer = fixture("pull-offer.sdp");
  const size_t video = offer.find("m=video"), audio = offer.find("m=audio");
  offer =
      offer.substr(0, video) + "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:0\r\n" +
      offer.substr(audio) + "m=video 0 UDP/TLS/RTP/SAVPF 120\r\n" +
      "m=video 9 UDP/TLS/RTP/SAVPF 127\r\na=mid:5\r\na=rtpmap:127 THEORA/90000\r\na=sendonly\r\n";
  const auto remote = dialog.remote_offer(offer);
  ASSERT_TRUE(bool(remote)) << remote.error().message;
  EXPECT_EQ(remote->rejected_mids, (std::vector<std::string>{"0", "5"}));
  const SdpText inner = parsed(remote->inner);
  ASSERT_EQ(inner.sections.size(), 4u);
  EXPECT_EQ(value(inner.attributes, "group"), "BUNDLE 0 1 2 5");
  for (const SdpSection& section : inner.sections) {
    EXPECT_EQ(section.port, 9u);
    EXPECT_TRUE(section.media == "audio" || section.media == "video");
    EXPECT_FALSE(formats_of(section).empty());
  }
  const SdpText wire = parsed(dialog.answer(generated({"0", "1", "2", "5"}))->wire);
  EXPECT_EQ(wire.sections[0].media, "application");
  for (int dead : {0, 2, 3}) EXPECT_EQ(wire.sections[dead].port, 0u);
  EXPECT_EQ(wire.sections[1].port, 9u);
  EXPECT_EQ(value(wire.attributes, "group"), "BUNDLE 1");
}

TEST(SdpOfferFromSfu, ThatRecyclesASectionAsksForANewSession) {
  SdpDialog dialog = make_dialog();
  const std::string offer = fixture("pull-offer.sdp");
  ASSERT_TRUE(bool(dialog.remote_offer(offer)));
  const auto remote = dialog.remote_offer(replaced(offer, "a=mid:0", "a=mid:7"));
  ASSERT_FALSE(bool(remote));
  EXPECT_EQ(remote.error().kind, ErrorKind::gone);
  const auto fewer = dialog.remote_offer(offer.substr(0, offer.find("m=audio")));
  ASSERT_FALSE(bool(fewer));
  EXPECT_EQ(fewer.error().kind, ErrorKind::protocol);
}

TEST(SdpOfferFromSfu, LetsNoFormatParameterPassAsAFieldOfCaps) {
  SdpDialog dialog = make_dialog();
  const auto remote = dialog.remote_offer(
      replaced(fixture("pull-offer.sdp"), "98 profile-id=0",
               "98 a-mid=9;extmap-3=x;rtcp-fb-nack=y;ssrc=4;profile-id=0; =;%;payload=1"));
  ASSERT_TRUE(bool(remote));
  EXPECT_NE(remote->inner.find("a=fmtp:98 profile-id=0\r\n"), std::string::npos) << remote->inner;
}

TEST(SdpSections, AreFoundBySsrcThenMidThenPayloadType) {
  SdpDialog dialog = make_dialog();
  ASSERT_TRUE(bool(dialog.remote_offer(fixture("pull-offer.sdp"))));
  EXPECT_EQ(dialog.section_of(2596996162, "", 125, {}), "0");
  EXPECT_EQ(dialog.section_of(4039455774, "0", 111, {}), "1") << "the announcement counts";
  EXPECT_EQ(dialog.section_of(5, "1", 96, {}), "1");
  EXPECT_EQ(dialog.section_of(5, "nonsense", 96, {}), "0");
  EXPECT_EQ(dialog.section_of(5, "", 8, {}), "1");
  EXPECT_EQ(dialog.section_of(5, "", 8, {"1"}), "") << "has its media already";
  EXPECT_EQ(dialog.section_of(5, "", 37, {}), "") << "RTX alone says nothing";
  EXPECT_EQ(dialog.section_of(5, "", 77, {}), "");
}

TEST(SdpText, SurvivesRandomDamage) {
  std::mt19937 random(20240501);
  const std::string sources[] = {fixture("publish-answer.sdp"), fixture("pull-offer.sdp"),
                                 fixture("publish-answer-rejected.sdp")};
  const std::string bits[] = {"\r\n",
                              "a=",
                              "m=",
                              ":",
                              " ",
                              "0",
                              "-1",
                              "4294967296",
                              "a=inactive\r\n",
                              "m=video 0 X Y\r\n",
                              "a=mid:0\r\n",
                              "a=rtpmap:96 \r\n",
                              "\t",
                              "/"};
  for (int round = 0; round < 3000; round++) {
    std::string text = sources[random() % 3];
    for (unsigned change = random() % 6 + 1; change > 0; change--) {
      const size_t at = random() % text.size();
      switch (random() % 4) {
        case 0: text.erase(at, random() % 40); break;
        case 1: text.insert(at, bits[random() % std::size(bits)]); break;
        case 2: text[at] = static_cast<char>(random() % 256); break;
        default: text += text.substr(at, random() % 400);
      }
    }
    SdpDialog dialog = make_dialog();
    if (round % 2) {
      (void)dialog.add_track(video());
      (void)dialog.add_track(audio());
      (void)dialog.offer(generated({"0", "1"}));
      (void)dialog.remote_answer(text);
    } else if (const auto remote = dialog.remote_offer(text)) {
      // whatever was taken, webrtcbin gets something whole
      const SdpText inner = parsed(remote->inner);
      std::vector<std::string> mids;
      for (const SdpSection& section : inner.sections) {
        mids.push_back(value(section.attributes, "mid"));
        EXPECT_FALSE(formats_of(section).empty());
        EXPECT_TRUE(section.attributes.has("fingerprint"));
      }
      EXPECT_TRUE(bool(dialog.answer(generated(mids))));
    }
  }
}

TEST(RtpHeader, GivesSsrcPayloadTypeAndMid) {
  const uint8_t one_byte[] = {0x90, 0xe0, 0, 1,    0, 0, 0, 2, 0,    0,   0x10, 0x92, 0xbe,
                              0xde, 0,    2, 0x22, 1, 2, 3, 0, 0x41, '1', '2',  0xff};
  RtpHeader header = read_rtp_header(one_byte, sizeof one_byte, 4);
  EXPECT_EQ(header.ssrc, 4242u);
  EXPECT_EQ(header.payload, 96);
  EXPECT_EQ(header.mid, "12");
  EXPECT_EQ(read_rtp_header(one_byte, sizeof one_byte, 5).mid, "");
  const uint8_t two_byte[] = {0x90, 96, 0, 1, 0, 0, 0, 2, 0, 0,   0x10, 0x92,
                              0x10, 0,  0, 2, 1, 0, 0, 4, 2, 'a', 'b',  0};
  EXPECT_EQ(read_rtp_header(two_byte, sizeof two_byte, 4).mid, "ab");
  for (size_t size = 0; size < sizeof one_byte; size++)
    (void)read_rtp_header(one_byte, size, 4);  // cut anywhere
  EXPECT_EQ(read_rtp_header(one_byte, 11, 4).payload, -1);
}

TEST(Fingerprint, IsTheHashOfTheCertificate) {
  const std::string pem =
      "-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n";  // "abc"
  EXPECT_EQ(certificate_fingerprint(pem, "sha-256").substr(0, 12), "BA:78:16:BF:");
  EXPECT_EQ(certificate_fingerprint(pem, "sha-1"), "");
  EXPECT_EQ(certificate_fingerprint("YWJj", "sha-256"), "");
}

TEST(TurnUri, IsWhatWebrtcbinTakes) {
  EXPECT_EQ(turn_uri("turn:turn.example:3478?transport=udp", "me", "word"),
            "turn://me:word@turn.example:3478?transport=udp");
  EXPECT_EQ(turn_uri("turns:turn.example:5349?transport=tcp", "me", "word"),
            "turns://me:word@turn.example:5349?transport=tcp");
  EXPECT_EQ(turn_uri("turn://turn.example", "me", "word"), "turn://me:word@turn.example");
  EXPECT_EQ(turn_uri("turn:[2001:db8::53]:3478", "me", "word"),
            "turn://me:word@[2001:db8::53]:3478");
  // As the TURN REST API makes them.
  EXPECT_EQ(turn_uri("turn:h", "1700000000:me", "a+b/c=@:?"),
            "turn://1700000000%3Ame:a%2Bb%2Fc%3D%40%3A%3F@h");
}

// Browsers block port 53, and some resolvers eat it.
TEST(TurnUri, LeavesOutPort53AndWhatIsNoTurn) {
  for (const char* url : {"turn:turn.example:53?transport=udp", "turn:[2001:db8::1]:53",
                          "turns:turn.example:53", "stun:stun.example:3478", "turn:", "http://h",
                          "turn:other@host:3478"})
    EXPECT_EQ(turn_uri(url, "me", "word"), "") << url;
  EXPECT_EQ(turn_uri("turn:h", "", "word"), "");
  EXPECT_EQ(turn_uri("turn:h", "me", ""), "");
}

}  // namespace
}  // namespace cfr
